"""The sessions that are measured: a small one of about 300 bytes, and a large one of 8 KB and 40 keys."""

SMALL = {
    "user_name": "Ada Lovelace",
    "locale": "en-GB",
    "theme": "dark",
    "cart": [{"sku": "A-1043", "n": 2}, {"sku": "B-2210", "n": 1}],
    "csrf": "c7Qe0yq3mX8bJk1tWv5uZp9r",
    "last_pages": ["/", "/catalogue", "/catalogue/A-1043", "/cart"],
    "note": "x" * 60,
}
LARGE = {f"key_{number:02}": f"value {number} " + "y" * 185 for number in range(39)} | {"user_name": "Ada Lovelace"}
COUNT = 1000
