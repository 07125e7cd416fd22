// What the pages do beyond being pages.  Each part works on documents that lack what it is about.
import { start as charts } from "./js/charts.js";
import { start as dialogs } from "./js/dialogs.js";
import { start as keys } from "./js/keys.js";
import { start as live } from "./js/live.js";
import { start as preferences } from "./js/preferences.js";
import { start as suggestions } from "./js/suggestions.js";
import { start as ticks } from "./js/ticks.js";
import { start as times } from "./js/times.js";

for (const start of [preferences, times, ticks, dialogs, keys, suggestions, charts, live]) start();
