// A page that asks is shown as a dialog where the reader is.  Without this, it is a page.
let opener = null;

export function open() {
  return document.querySelector("dialog[open]");
}

async function ask(link) {
  const dialog = document.querySelector("[data-dialog]");
  const answer = await fetch(link.href, { headers: { Accept: "text/html" } });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const form = page.querySelector("[data-confirm]");
  if (!answer.ok || !form) {
    location.assign(link.href);
    return;
  }
  opener = link;
  dialog.replaceChildren(document.importNode(form, true));
  dialog.showModal();
  const first = dialog.querySelector("input:not([type=hidden]), textarea, select");
  if (first) first.focus();
}

export function start() {
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-ask]");
    if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey && event.button === 0) {
      event.preventDefault();
      ask(link).catch(() => location.assign(link.href));
    }
    const close = event.target.closest("dialog [data-close]");
    if (close) {
      event.preventDefault();
      close.closest("dialog").close();
    }
    if (event.target.matches("dialog[open]")) event.target.close();
  });
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("close", () => {
      if (opener && opener.isConnected) opener.focus();
      opener = null;
      document.dispatchEvent(new Event("hareline:resume"));
    });
  }
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    await navigator.clipboard.writeText(button.dataset.copy || document.getElementById(button.dataset.copyOf).textContent);
    const words = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = words), 1200);
  });
}
