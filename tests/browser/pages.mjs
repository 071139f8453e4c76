// Submits a task in Swagger UI, reads its status and its log, and opens Redoc. Fails if a page or the console shows a
// fault.

import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const target = JSON.parse(process.argv[2]);
const LIMIT_MS = 30_000;
const GREETING = "hello from the browser";
const origin = new URL(target.base).origin;

/** What a person would see in the developer tools: messages, failed requests, and requests to elsewhere. */
function watch(page, faults) {
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) faults.push(`console ${message.type()}: ${message.text()}`);
  });
  page.on("pageerror", (error) => faults.push(`exception: ${error}`));
  page.on("requestfailed", (request) => faults.push(`failed: ${request.url()}: ${request.failure().errorText}`));
  page.on("request", (request) => {
    const url = new URL(request.url());
    const isInline = ["data:", "blob:"].includes(url.protocol);
    if (!isInline && url.origin !== origin) faults.push(`request to elsewhere: ${url}`);
  });
  page.on("response", (response) => {
    if (response.status() >= 400) faults.push(`status ${response.status()}: ${response.url()}`);
  });
}

/** Enters the user in the dialog of the "Authorize" button. */
async function authorize(page, user) {
  await page.getByRole("button", { name: "Authorize" }).first().click();
  const dialog = page.locator(".modal-ux");
  await dialog.locator("input").fill(user);
  await dialog.getByRole("button", { name: "Apply credentials" }).click();
  await page.screenshot({ path: `${target.screenshots}/authorize.png` });
  await dialog.getByRole("button", { name: "Close" }).last().click();
}

/** An operation of the page, ready to be filled in. */
async function tryOut(page, operation) {
  const block = page.locator(`#operations-tasks-${operation}`);
  await block.locator(".opblock-summary-control").click();
  await block.getByRole("button", { name: "Try it out" }).click();
  return block;
}

/** Clicks "Execute" and returns what the page shows as the status and the body of the response. */
async function execute(page, block) {
  const answered = page.waitForResponse((response) => response.request().resourceType() === "fetch");
  await block.getByRole("button", { name: "Execute" }).click();
  await answered;
  const live = block.locator(".live-responses-table .response").first();
  await block.locator(".loading-container").waitFor({ state: "detached" });
  const status = (await live.locator(".response-col_status").innerText()).trim();
  const body = live.locator(".response-col_description .highlight-code code").first();
  return { status, body: await body.innerText() };
}

/** Saves what a person sees after clicking "Execute". */
async function photograph(page, block, name) {
  await block.getByText("Responses", { exact: true }).first().evaluate((heading) => heading.scrollIntoView());
  await page.screenshot({ path: `${target.screenshots}/${name}.png` });
}

async function submit(page) {
  const block = await tryOut(page, "submit_task");
  const editor = block.locator("textarea.body-param__text");
  // What the page proposes is a valid task, so that a person can start from it.
  assert.ok(JSON.parse(await editor.inputValue()).run, "the page proposes a task");
  const task = { name: "browser", run: `echo ${GREETING}; echo $SKYPILOT_TASK_ID` };
  await editor.fill(JSON.stringify(task, null, 2));
  const { status, body } = await execute(page, block);
  assert.equal(status, "200", body);
  await photograph(page, block, "submit");
  return JSON.parse(body).task_id;
}

/** Reads the status until the task has completed. */
async function readStatus(page, id) {
  const block = await tryOut(page, "get_task_status");
  await block.locator('tr[data-param-name="task_id"] input').fill(id);
  const deadline = Date.now() + LIMIT_MS;
  for (;;) {
    const { status, body } = await execute(page, block);
    assert.equal(status, "200", body);
    const task = JSON.parse(body);
    if (task.status === "completed") {
      await photograph(page, block, "status");
      return task;
    }
    assert.ok(Date.now() < deadline, `the task does not complete: ${body}`);
  }
}

async function readLog(page, id) {
  const block = await tryOut(page, "stream_task_logs");
  await block.locator('tr[data-param-name="task_id"] input').fill(id);
  const { status, body } = await execute(page, block);
  assert.equal(status, "200", body);
  await photograph(page, block, "log");
  return body;
}

async function useSwagger(page) {
  await page.goto(`${target.base}/docs`);
  await page.locator("#operations-tasks-submit_task").waitFor();
  await page.screenshot({ path: `${target.screenshots}/docs.png` });
  if (target.authorize) await authorize(page, target.authorize);
  const id = await submit(page);
  const task = await readStatus(page, id);
  assert.equal(task.username, target.authorize ?? target.user);
  const log = await readLog(page, id);
  assert.match(log, new RegExp(`^${GREETING}\\n.*${id}`), "the page shows the log");
}

async function openRedoc(page) {
  await page.goto(`${target.base}/redoc`);
  await page.getByRole("heading", { name: "Submit a task." }).waitFor();
  await page.screenshot({ path: `${target.screenshots}/redoc.png` });
}

const browser = await chromium.launch({
  executablePath: target.chromium,
  args: [`--host-resolver-rules=MAP ${target.host} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1`],
});
const credentials = target.user && { username: target.user, password: target.password, origin };
const context = await browser.newContext({
  viewport: { width: 1280, height: 900 },
  // The certificate is that of the test.
  ignoreHTTPSErrors: true,
  httpCredentials: credentials,
});
const faults = [];
for (const visit of [useSwagger, openRedoc]) {
  const page = await context.newPage();
  page.setDefaultTimeout(LIMIT_MS);
  watch(page, faults);
  try {
    await visit(page);
  } catch (error) {
    faults.push(`${visit.name}: ${error.stack}`);
    await page.screenshot({ path: `${target.screenshots}/${visit.name}-failed.png`, fullPage: true });
  }
}
await browser.close();
for (const fault of faults) console.error(fault);
process.exitCode = faults.length ? 1 : 0;
