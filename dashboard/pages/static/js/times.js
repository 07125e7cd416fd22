// "3 s ago" stays true.  Ages are counted on the database's clock, whatever this machine's says.
const units = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
let skew = 0;

export function now() {
  return Date.now() + skew;
}

export function since(at) {
  const seconds = (now() - at) / 1000;
  const left = Math.abs(seconds);
  if (left < 1) return "just now";
  const [unit, size] = units.find(([, length]) => left >= length) || units[3];
  const words = `${Math.floor(left / size)} ${unit}`;
  return seconds < 0 ? `in ${words}` : `${words} ago`;
}

export function synchronise(root) {
  const said = Date.parse(root.dataset.now);
  if (!Number.isNaN(said)) skew = said - Date.now();
}

function tell() {
  for (const time of document.querySelectorAll("time[data-ago]")) {
    const words = since(Date.parse(time.dateTime));
    if (time.textContent !== words) time.textContent = words;
  }
}

export function start() {
  synchronise(document.body);
  setInterval(() => document.hidden || tell(), 1000);
}
