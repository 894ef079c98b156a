"""What people take for passwords first: what guessing begins with, so nobody may have it. It needs no network.

`WORDS` are what such passwords are made of. `listed` are the 10,000 most common ones themselves, from breaches, as
Django distributes them (`common.txt.LICENSE` says on which terms; `tools/common_passwords.py` took them).
"""

from __future__ import annotations

import gzip
from functools import cache
from importlib.resources import files
from typing import Final

_TEXT: Final = """
aaaaaa abcabc abcdef abcdefg abcdefgh access account admin administrator amanda andrea andrew angel anthony apple asdf
asdfgh asdfghjkl ashley austin azerty azertyuiop baseball basketball batman biteme buster butterfly changeme charlie
cheese chelsea chocolate computer cookie correcthorsebatterystaple corvette cowboy dallas daniel database default demo
diamond dragon eagle eminem family flower football freedom friends fuckyou gandalf george ginger google guest hannah
harley heather hello hockey hottie hunter iceman iloveyou internet jackson jasmine jennifer jessica jessie jesus
jordan joshua justin killer klaster letmein liverpool login london love lovely loveme maggie marina martin master
matrix matthew maverick mercedes merlin michael michelle monkey monster mustang naruto nicole ninja nothing orange
pass passphrase passw0rd password passwort pepper pokemon princess private purple qazwsx qazwsxedc querty qwerty
qwertyui qwertyuiop qwertz qwertzuiop ranger robert rockyou root samantha samsung scooter secret shadow silver snoopy
soccer sophie spiderman starwars steelers success summer sunshine superman superuser sweety taylor tennis test tester
testing thomas thunder tigger tinkerbell trustno trustnoone user vanessa welcome whatever william winner winter
yankees yellow zaqwsx zaqxsw zxcvbn zxcvbnm
"""
WORDS: Final = frozenset(_TEXT.split())


@cache
def listed() -> frozenset[str]:
    """Return the most common passwords, case-folded; they are read when somebody chooses one."""
    packed = (files("sessile.auth.passwords") / "common.txt.gz").read_bytes()
    return frozenset(gzip.decompress(packed).decode().split("\n"))
