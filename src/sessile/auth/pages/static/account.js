// What the pages do with a script; without one they work as well, but for passkeys.
(() => {
  for (const one of document.querySelectorAll("[data-script]")) one.hidden = false;
  for (const one of document.querySelectorAll("time[datetime]")) {
    const moment = new Date(one.dateTime);
    if (!Number.isNaN(moment.getTime())) {
      one.title = one.textContent;
      one.textContent = moment.toLocaleString(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });
    }
  }
  document.querySelector("[data-print]")?.addEventListener("click", () => print());
})();
