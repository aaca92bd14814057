// Fold the sections that begin with "Going deeper", as JupyterLab does. Without
// JavaScript they are open.
document.addEventListener("DOMContentLoaded", () => {
  for (const section of document.querySelectorAll('section[id^="going-deeper"]')) {
    const heading = section.firstElementChild;
    const details = document.createElement("details");
    details.className = "deeper";
    const summary = document.createElement("summary");
    section.before(details);
    summary.append(heading);
    details.append(summary, section);
    const open = () => {
      if (location.hash && details.querySelector(CSS.escape ? `#${CSS.escape(location.hash.slice(1))}` : location.hash)) {
        details.open = true;
      }
    };
    open();
    window.addEventListener("hashchange", open);
  }
});
