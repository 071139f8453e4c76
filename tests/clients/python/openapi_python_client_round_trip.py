"""Uses the server at the given URL with the client that openapi-python-client generated."""

import sys
import time
from datetime import datetime, timezone

from expect import equal, instance
from httpx import Timeout
from k8s_cli_client import AuthenticatedClient
from k8s_cli_client.api.tasks import get_task_status, list_tasks, stop_all_tasks, stop_task, stream_task_logs
from k8s_cli_client.api.tasks import submit_task
from k8s_cli_client.api.volumes import create_volume, delete_volume, get_volume_status, list_volumes
from k8s_cli_client.models import AccessMode, ErrorResponse, HTTPValidationError, Resources, TaskDefinition
from k8s_cli_client.models import TaskDefinitionEnvs, TaskDefinitionVolumes, TaskDryRunResponse, TaskListResponse
from k8s_cli_client.models import TaskState, TaskStatus, TaskStopAllResponse, TaskStopResponse, TaskSubmitResponse
from k8s_cli_client.models import VolumeCreateResponse, VolumeDefinition, VolumeDeleteResponse, VolumeListResponse
from k8s_cli_client.models import VolumePhase, VolumeStatus

# An empty prefix, because the token is the name of the user, without `Bearer`. The timeout is the deadline of the log.
client = AuthenticatedClient(
    base_url=sys.argv[1],
    token="openapi-python-client",
    prefix="",
    auth_header_name="X-User",
    timeout=Timeout(60),
)
started = datetime.now(timezone.utc)


def volumes() -> None:
    """Creates two volumes, the first of which the task mounts."""
    definition = VolumeDefinition(name="data", size="1.5Gi")
    created = create_volume.sync(client=client, body=definition)
    data = instance("a volume is created", created, VolumeCreateResponse)
    definition = VolumeDefinition(name="large", size="1Ti", access_modes=[AccessMode.READWRITEMANY])
    created = create_volume.sync(client=client, body=definition)
    large = instance("a volume of 1Ti is created", created, VolumeCreateResponse)

    found = instance("volumes are listed", list_volumes.sync(client=client), VolumeListResponse).volumes
    equal("the oldest volume is first", [v.volume_id for v in found], [data.volume_id, large.volume_id])
    volume = instance("a volume has a status", get_volume_status.sync(data.volume_id, client=client), VolumeStatus)
    equal("a size has a unit without a fraction", volume.size, "1536Mi")
    equal("a volume on this machine is bound", volume.status, VolumePhase.BOUND)
    equal("the default access mode is ReadWriteOnce", volume.access_modes, [AccessMode.READWRITEONCE])
    equal("the time of creation is after the start", volume.created_at > started, True)
    volume = instance("a volume has a status", get_volume_status.sync(large.volume_id, client=client), VolumeStatus)
    equal("the size is as requested", volume.size, "1Ti")
    equal("the access mode is as requested", volume.access_modes, [AccessMode.READWRITEMANY])


def task() -> None:
    """Runs a task that uses every notation that a client may have its own type for."""
    definition = TaskDefinition(
        name="round-trip",
        num_nodes=1,
        max_duration="1h30m",
        resources=Resources(cpus="0.5", memory="0.25Gi", disk_size="256GB", ports="8080-8090", use_spot=True),
        envs=TaskDefinitionEnvs.from_dict({"TEXT": "text", "NUMBER": 10, "FRACTION": 0.5, "FLAG": True}),
        volumes=TaskDefinitionVolumes.from_dict({"/data": "data"}),
        run='echo "$TEXT $NUMBER $FRACTION $FLAG" > /data/file; cat /data/file',
    )
    answer = submit_task.sync(client=client, body=definition, dry_run=True)
    dry_run = instance("a dry run has its own type", answer, TaskDryRunResponse)
    kinds = {manifest["kind"] for manifest in dry_run.manifests}
    equal("a dry run shows a Job", "Job" in kinds, True)

    answer = submit_task.sync(client=client, body=definition, idempotency_key="first")
    submitted = instance("a task is submitted", answer, TaskSubmitResponse)
    answer = submit_task.sync(client=client, body=definition, idempotency_key="first")
    repeated = instance("a submit can be repeated", answer, TaskSubmitResponse)
    equal("a repeated submit returns the same task", repeated.task_id, submitted.task_id)

    log = stream_task_logs.sync(submitted.task_id, client=client)
    equal("the log is the output of the task", log, "text 10 0.5 True\n")
    status = wait_until_completed(submitted.task_id)
    equal("the status has the name", status.name, "round-trip")
    equal("a completed task has no reason", status.reason, None)
    node = status.metadata.nodes[0]
    equal("the exit code of the node is 0", node.exit_code, 0)
    equal("the node has started", instance("a start is a time", node.started_at, datetime).tzinfo, timezone.utc)
    tasks = instance("tasks are listed", list_tasks.sync(client=client), TaskListResponse).tasks
    equal("only this user's task is listed", [t.task_id for t in tasks], [submitted.task_id])

    stopped = stop_task.sync(submitted.task_id, client=client)
    equal("a task is stopped", instance("a stop has a type", stopped, TaskStopResponse).task_id, submitted.task_id)
    everything = stop_all_tasks.sync(client=client)
    equal("no task is left", instance("a stop has a type", everything, TaskStopAllResponse).count, 0)


def wait_until_completed(task_id: str) -> TaskStatus:
    """Returns the status of the task when it has completed."""
    deadline = time.monotonic() + 60
    while True:
        status = instance("a task has a status", get_task_status.sync(task_id, client=client), TaskStatus)
        if status.status == TaskState.COMPLETED:
            return status
        equal("the task has not failed", status.status in (TaskState.PENDING, TaskState.RUNNING), True)
        equal("the task completes in time", time.monotonic() < deadline, True)
        time.sleep(0.1)


def errors() -> None:
    """Makes requests that the server refuses."""
    missing = get_task_status.sync("missing", client=client)
    error = instance("404 has a type", missing, ErrorResponse)
    equal("404 names the task", error.detail, "Task missing not found")

    invalid = TaskDefinition(run="true", max_duration="soon", resources=Resources(ports=[8080, "none"]))
    refused = instance("422 has a type", submit_task.sync(client=client, body=invalid), HTTPValidationError)
    locations = [error.loc for error in refused.detail]
    equal("422 locates errors", locations, [["body", "resources", "ports", 1], ["body", "max_duration"]])
    equal("422 contains the input", [error.input_ for error in refused.detail], ["none", "soon"])


def clean_up() -> None:
    """Deletes the volumes."""
    for volume in instance("volumes are listed", list_volumes.sync(client=client), VolumeListResponse).volumes:
        deleted = delete_volume.sync(volume.volume_id, client=client)
        volume_id = instance("a volume is deleted", deleted, VolumeDeleteResponse).volume_id
        equal("the response names the volume", volume_id, volume.volume_id)
        missing = get_volume_status.sync(volume.volume_id, client=client)
        instance("a deleted volume is not found", missing, ErrorResponse)


if __name__ == "__main__":
    volumes()
    task()
    errors()
    clean_up()
