// One stream of nudges for all tabs of a browser, which has few connections to spare: the tab that holds a lock has it,
// and passes on what it hears.  Where there are no locks (plain HTTP from afar) each tab has its own.
const topics = "jobs failures queues workers schedules flows limits circuits operations audit alerts".split(" ");
const longest = 30000;

let channel = null;
let source = null;
let waiting = null;
let release = null;
let failures = 0;
let timer = 0;

function follow(root, tell) {
  source = new EventSource(`${root}/api/v1/events`);
  for (const topic of topics) source.addEventListener(topic, () => tell({ topic }));
  source.onopen = () => {
    failures = 0;
    tell({ state: "on" });
  };
  source.onerror = () => {
    tell({ state: "lost" });
    if (source?.readyState !== EventSource.CLOSED) return; // the browser tries again
    source.close();
    timer = setTimeout(() => follow(root, tell), Math.min(longest, 1000 * 2 ** Math.min(failures++, 5)));
  };
}

// hear({topic}) for a nudge, hear({state}) when the connection is lost or back.
export function listen(root, hear) {
  if (channel) return;
  channel = new BroadcastChannel(`hareline ${root}`);
  channel.onmessage = (event) => hear(event.data);
  const tell = (news) => {
    hear(news);
    channel?.postMessage(news);
  };
  if (!navigator.locks) {
    follow(root, hear);
    return;
  }
  waiting = new AbortController();
  const hold = () => new Promise((done) => {
    release = done;
    follow(root, tell);
  });
  navigator.locks.request(`hareline ${root}`, { signal: waiting.signal }, hold).catch(() => {});
}

export function stop() {
  clearTimeout(timer);
  source?.close();
  channel?.close();
  if (release) release();
  else waiting?.abort();
  source = channel = waiting = release = null;
}
