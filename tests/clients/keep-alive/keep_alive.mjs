// Sends POSTs with pauses, with the `fetch` of Node.js, and checks that all use the first connection.

import assert from "node:assert/strict";
import { subscribe } from "node:diagnostics_channel";
import { setTimeout as sleep } from "node:timers/promises";

const [url, count, pause] = process.argv.slice(2);
let connections = 0;
subscribe("undici:client:connected", () => connections++);

for (let i = 0; i < Number(count); i++) {
  const signal = AbortSignal.timeout(10_000);
  const response = await fetch(url, { method: "POST", headers: { "X-User": "keep-alive-fetch" }, signal });
  assert.equal(response.status, 200, `POST ${i} succeeds: ${await response.text()}`);
  await sleep(Number(pause) * 1000);
}
assert.equal(connections, 1, `fetch sends ${count} POSTs on 1 connection`);
