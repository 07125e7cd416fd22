// Theme, pace and zone without loading the page again; the form itself does the same by a request.
const year = 31536000;

function remember(name, value) {
  const path = document.body.dataset.root || "/";
  document.cookie = `hareline_${name}=${encodeURIComponent(value)}; path=${path}; max-age=${year}; samesite=lax`;
}

function press(button) {
  for (const other of button.parentElement.children) other.setAttribute("aria-pressed", String(other === button));
}

export function start() {
  document.addEventListener("submit", (event) => {
    const button = event.submitter;
    if (!event.target.matches("[data-preferences]") || !button || !button.name) return;
    event.preventDefault();
    const zone = button.hasAttribute("data-local") ? Intl.DateTimeFormat().resolvedOptions().timeZone : button.value;
    remember(button.name, button.name === "zone" ? zone : button.value);
    press(button);
    if (button.name === "theme") {
      if (button.value === "system") delete document.documentElement.dataset.theme;
      else document.documentElement.dataset.theme = button.value;
      document.dispatchEvent(new Event("hareline:theme"));
    } else if (button.name === "interval") {
      document.body.dataset.interval = button.value;
      document.dispatchEvent(new Event("hareline:interval"));
    } else location.reload();
  });
  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("[data-menu][open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  });
}
