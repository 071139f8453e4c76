"""Uses the server at the given URL with the Python client that openapi-generator generated."""

import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone

from expect import equal, instance
from openapi_client import AccessMode, ApiClient, ApiException, Configuration, ErrorResponse, HTTPValidationError
from openapi_client import Resources, TaskDefinition, TaskDryRunResponse, TasksApi, TaskState, TaskStatus
from openapi_client import TaskSubmitResponse, VolumeDefinition, VolumePhase, VolumesApi

# The deadline of a request, and so of the log.
TIMEOUT = 60
configuration = Configuration(host=sys.argv[1], api_key={"User": "openapi-generator-python"})
client = ApiClient(configuration)
tasks, volumes = TasksApi(client), VolumesApi(client)
started = datetime.now(timezone.utc)


def create_volumes() -> None:
    """Creates two volumes, the first of which the task mounts."""
    data = volumes.create_volume(VolumeDefinition(name="data", size="1.5Gi"), _request_timeout=TIMEOUT)
    definition = VolumeDefinition(name="large", size="1Ti", access_modes=[AccessMode.READWRITEMANY])
    large = volumes.create_volume(definition, _request_timeout=TIMEOUT)
    equal("a created volume has a status", data.status, "created")

    found = volumes.list_volumes(_request_timeout=TIMEOUT).volumes
    equal("the oldest volume is first", [v.volume_id for v in found], [data.volume_id, large.volume_id])
    volume = volumes.get_volume_status(data.volume_id, _request_timeout=TIMEOUT)
    equal("a size has a unit without a fraction", volume.size, "1536Mi")
    equal("a volume on this machine is bound", volume.status, VolumePhase.BOUND)
    equal("the default access mode is ReadWriteOnce", volume.access_modes, [AccessMode.READWRITEONCE])
    equal("the time of creation is after the start", volume.created_at > started, True)
    volume = volumes.get_volume_status(large.volume_id, _request_timeout=TIMEOUT)
    equal("the size is as requested", volume.size, "1Ti")
    equal("the access mode is as requested", volume.access_modes, [AccessMode.READWRITEMANY])


def run_task() -> None:
    """Runs a task that uses every notation that a client may have its own type for."""
    definition = TaskDefinition(
        name="round-trip",
        num_nodes=1,
        max_duration="1h30m",
        resources=Resources(cpus="0.5", memory="0.25Gi", disk_size="256GB", ports="8080-8090", use_spot=True),
        envs={"TEXT": "text", "NUMBER": 10, "FRACTION": 0.5, "FLAG": True},
        volumes={"/data": "data"},
        run='echo "$TEXT $NUMBER $FRACTION $FLAG" > /data/file; cat /data/file',
    )
    answer = tasks.submit_task(definition, dry_run=True, _request_timeout=TIMEOUT).actual_instance
    dry_run = instance("a dry run has its own type", answer, TaskDryRunResponse)
    kinds = {manifest["kind"] for manifest in dry_run.manifests}
    equal("a dry run shows a Job", "Job" in kinds, True)

    submitted = submit(definition)
    equal("a repeated submit returns the same task", submit(definition).task_id, submitted.task_id)

    log = tasks.stream_task_logs(submitted.task_id, _request_timeout=TIMEOUT)
    equal("the log is the output of the task", log, "text 10 0.5 True\n")
    status = wait_until_completed(submitted.task_id)
    equal("the status has the name", status.name, "round-trip")
    equal("a completed task has no reason", status.reason, None)
    node = status.metadata.nodes[0]
    equal("the exit code of the node is 0", node.exit_code, 0)
    equal("a start has an offset of 0", instance("a start is a time", node.started_at, datetime).tzname(), "UTC")
    listed = tasks.list_tasks(_request_timeout=TIMEOUT).tasks
    equal("only this user's task is listed", [t.task_id for t in listed], [submitted.task_id])

    stopped = tasks.stop_task(submitted.task_id, _request_timeout=TIMEOUT)
    equal("a task is stopped", (stopped.task_id, stopped.status), (submitted.task_id, "stopped"))
    equal("no task is left", tasks.stop_all_tasks(_request_timeout=TIMEOUT).count, 0)


def submit(definition: TaskDefinition) -> TaskSubmitResponse:
    """Submits the task, or finds it if it exists."""
    response = tasks.submit_task(definition, idempotency_key="first", _request_timeout=TIMEOUT)
    return instance("a task is submitted", response.actual_instance, TaskSubmitResponse)


def wait_until_completed(task_id: str) -> TaskStatus:
    """Returns the status of the task when it has completed."""
    deadline = time.monotonic() + 60
    while True:
        status = tasks.get_task_status(task_id, _request_timeout=TIMEOUT)
        if status.status == TaskState.COMPLETED:
            return status
        equal("the task has not failed", status.status in (TaskState.PENDING, TaskState.RUNNING), True)
        equal("the task completes in time", time.monotonic() < deadline, True)
        time.sleep(0.1)


def make_errors() -> None:
    """Makes requests that the server refuses."""
    data = refused("404 for a task", 404, lambda: tasks.get_task_status("missing", _request_timeout=TIMEOUT))
    equal("404 names the task", instance("404 has a type", data, ErrorResponse).detail, "Task missing not found")

    invalid = TaskDefinition(run="true", max_duration="soon", resources=Resources(ports=[8080, "none"]))
    data = refused("422 for a task", 422, lambda: tasks.submit_task(invalid, _request_timeout=TIMEOUT))
    detail = instance("422 has a type", data, HTTPValidationError).detail
    locations = [[part.actual_instance for part in error.loc] for error in detail]
    equal("422 locates errors", locations, [["body", "resources", "ports", 1], ["body", "max_duration"]])
    equal("422 contains the input", [error.input for error in detail], ["none", "soon"])


def refused(claim: str, status: int, request: Callable[[], object]) -> object:
    """Returns the typed body of the error that the request is answered with."""
    try:
        answer = request()
    except ApiException as error:
        equal(claim, error.status, status)
        return error.data
    raise SystemExit(f"not true: {claim}\n  actual:   {answer!r}")


def clean_up() -> None:
    """Deletes the volumes."""
    for volume in volumes.list_volumes(_request_timeout=TIMEOUT).volumes:
        deleted = volumes.delete_volume(volume.volume_id, _request_timeout=TIMEOUT)
        equal("a volume is deleted", (deleted.volume_id, deleted.status), (volume.volume_id, "deleted"))
        data = refused("404 for a deleted volume", 404, lambda: volumes.get_volume_status(volume.volume_id))
        instance("404 has a type", data, ErrorResponse)


if __name__ == "__main__":
    create_volumes()
    run_task()
    make_errors()
    clean_up()
