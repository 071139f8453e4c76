// Uses the server at the given URL with openapi-fetch and the types that openapi-typescript generated.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

type Schemas = components["schemas"];

const baseUrl = process.argv[2];
assert(baseUrl, "the first argument is the URL of the server");
const client = createClient<paths>({ baseUrl, headers: { "X-User": "openapi-typescript" } });
const started = new Date();
const deadline = AbortSignal.timeout(60_000);

/** The body of a success. */
async function succeeds<T>(claim: string, response: Promise<{ data?: T; error?: unknown }>): Promise<T> {
  const { data, error } = await response;
  if (data === undefined) assert.fail(`${claim}: ${JSON.stringify(error)}`);
  return data;
}

/** The typed body of the error with this status. */
async function fails<E>(status: number, request: Promise<{ error?: E; response: Response }>): Promise<E> {
  const { error, response } = await request;
  assert.equal(response.status, status, `the status is ${status}`);
  assert(error !== undefined, `${status} has a body`);
  return error;
}

const getVolume = (volume_id: string) => client.GET("/volumes/{volume_id}", { params: { path: { volume_id } } });
const getTask = (task_id: string) =>
  client.GET("/tasks/{task_id}", { params: { path: { task_id } }, signal: deadline });

/** Creates two volumes, the first of which the task mounts. */
async function createVolumes(): Promise<void> {
  const create = (body: Schemas["VolumeDefinition"]) => client.POST("/volumes/create", { body });
  const data = await succeeds("a volume is created", create({ name: "data", size: "1.5Gi" }));
  const definition = { name: "large", size: "1Ti", access_modes: ["ReadWriteMany" as const] };
  const large = await succeeds("a volume of 1Ti is created", create(definition));
  const created: "created" = data.status;
  assert.equal(created, "created", "a created volume has a status");

  const { volumes } = await succeeds("volumes are listed", client.GET("/volumes"));
  const ids = volumes.map((volume) => volume.volume_id);
  assert.deepEqual(ids, [data.volume_id, large.volume_id], "the oldest volume is first");
  const small: Schemas["VolumeStatus"] = await succeeds("a volume has a status", getVolume(data.volume_id));
  assert.equal(small.size, "1536Mi", "a size has a unit without a fraction");
  assert.equal(small.status satisfies Schemas["VolumePhase"], "Bound", "a volume on this machine is bound");
  assert.deepEqual(small.access_modes, ["ReadWriteOnce"], "the default access mode is ReadWriteOnce");
  assert(new Date(small.created_at) > started, "the time of creation is after the start");
  const { size, access_modes } = await succeeds("a volume has a status", getVolume(large.volume_id));
  assert.deepEqual({ size, access_modes }, { size: "1Ti", access_modes: ["ReadWriteMany"] }, "both are as requested");
}

/** Runs a task that uses every notation that a client may have its own type for. */
async function runTask(): Promise<void> {
  const body: Schemas["TaskDefinition"] = {
    name: "round-trip",
    num_nodes: 1,
    max_duration: "1h30m",
    resources: { cpus: "0.5", memory: "0.25Gi", disk_size: "256GB", ports: "8080-8090", use_spot: true },
    envs: { TEXT: "text", NUMBER: 10, FRACTION: 0.5, FLAG: true },
    volumes: { "/data": "data" },
    run: 'echo "$TEXT $NUMBER $FRACTION $FLAG" > /data/file; cat /data/file',
  };
  const dryRun = { params: { query: { dry_run: true } }, body };
  const valid = await succeeds("a dry run succeeds", client.POST("/tasks/submit", dryRun));
  assert(valid.status === "dry_run", "`status` tells a dry run from a submit");
  assert(valid.manifests.some((manifest) => manifest["kind"] === "Job"), "a dry run shows a Job");

  const submit = () => client.POST("/tasks/submit", { params: { header: { "Idempotency-Key": "first" } }, body });
  const submitted = await succeeds("a task is submitted", submit());
  assert(submitted.status === "submitted", "`status` tells a submit from a dry run");
  const { task_id } = submitted;
  const repeated = await succeeds("a submit can be repeated", submit());
  assert.deepEqual(repeated, submitted, "a repeated submit returns the same task");

  const log = client.GET("/tasks/{task_id}/logs", { params: { path: { task_id } }, parseAs: "text", signal: deadline });
  assert.equal(await succeeds("the log is text", log), "text 10 0.5 True\n", "the log is the output of the task");
  const status = await waitUntilCompleted(task_id);
  assert.equal(status.name, "round-trip", "the status has the name");
  assert.equal(status.reason, null, "a completed task has no reason");
  const node = status.metadata.nodes[0];
  assert.equal(node?.exit_code, 0, "the exit code of the node is 0");
  assert(node.started_at !== null && !Number.isNaN(Date.parse(node.started_at)), "the start of the node is a time");
  const { tasks } = await succeeds("tasks are listed", client.GET("/tasks"));
  assert.deepEqual(tasks.map((task) => task.task_id), [task_id], "only this user's task is listed");

  const stop = client.POST("/tasks/{task_id}/stop", { params: { path: { task_id } } });
  assert.equal((await succeeds("a task is stopped", stop)).task_id, task_id, "the response names the stopped task");
  assert.equal((await succeeds("all tasks are stopped", client.POST("/tasks/stop"))).count, 0, "no task is left");
}

/** The status of the task when it has completed. */
async function waitUntilCompleted(task_id: string): Promise<Schemas["TaskStatus"]> {
  // The deadline ends this loop: `getTask` fails after it.
  for (;;) {
    const status = await succeeds("a task has a status", getTask(task_id));
    switch (status.status) {
      case "completed":
        return status;
      case "failed":
        assert.fail(`the task has not failed: ${status.message}`);
      case "pending":
      case "running":
        await sleep(100);
        break;
      default:
        // Does not compile if the document lists another state.
        assert.fail(`the document lists every state: ${status.status satisfies never}`);
    }
  }
}

/** Makes requests that the server refuses. */
async function makeErrors(): Promise<void> {
  const missing = await fails(404, getTask("missing"));
  assert.equal(missing.detail, "Task missing not found", "404 names the task");

  const body = { run: "true", max_duration: "soon", resources: { ports: [8080, "none"] } };
  const { detail } = await fails(422, client.POST("/tasks/submit", { body }));
  assert(Array.isArray(detail), "422 lists errors");
  const locations = detail.map((error) => error.loc);
  assert.deepEqual(locations, [["body", "resources", "ports", 1], ["body", "max_duration"]], "422 locates errors");
  assert.deepEqual(detail.map((error) => error.input), ["none", "soon"], "422 contains the input");
}

/** Deletes the volumes. */
async function cleanUp(): Promise<void> {
  for (const { volume_id } of (await succeeds("volumes are listed", client.GET("/volumes"))).volumes) {
    const remove = client.DELETE("/volumes/{volume_id}", { params: { path: { volume_id } } });
    assert.equal((await succeeds("a volume is deleted", remove)).volume_id, volume_id, "the response names the volume");
    await fails(404, getVolume(volume_id));
  }
}

await createVolumes();
await runTask();
await makeErrors();
await cleanUp();
