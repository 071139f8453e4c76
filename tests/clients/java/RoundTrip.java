// Uses the server at the given URL with the Java client that openapi-generator generated.

import java.time.Duration;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import org.openapitools.client.ApiClient;
import org.openapitools.client.ApiException;
import org.openapitools.client.api.TasksApi;
import org.openapitools.client.api.VolumesApi;
import org.openapitools.client.model.*;

public final class RoundTrip {
    private static final Duration DEADLINE = Duration.ofSeconds(60);

    private final OffsetDateTime started = OffsetDateTime.now();
    private final TasksApi tasks;
    private final VolumesApi volumes;

    private RoundTrip(ApiClient client) {
        tasks = new TasksApi(client);
        volumes = new VolumesApi(client);
    }

    public static void main(String[] arguments) throws Exception {
        var client = new ApiClient();
        client.setBasePath(arguments[0]);
        client.setApiKey("openapi-generator-java");
        // The log has no output until the task runs.
        client.setReadTimeout((int) DEADLINE.toMillis());
        var roundTrip = new RoundTrip(client);
        roundTrip.createVolumes();
        roundTrip.runTask();
        roundTrip.makeErrors();
        roundTrip.cleanUp();
        // Otherwise, the threads of the connection pool keep the process alive for a minute.
        client.getHttpClient().connectionPool().evictAll();
        client.getHttpClient().dispatcher().executorService().shutdown();
    }

    /** Creates two volumes, the first of which the task mounts. */
    private void createVolumes() throws ApiException {
        var data = volumes.createVolume(new VolumeDefinition().name("data").size("1.5Gi"));
        equal("a created volume has a status", data.getStatus(), VolumeCreateResponse.StatusEnum.CREATED);
        var many = List.of(AccessMode.READ_WRITE_MANY);
        var large = volumes.createVolume(new VolumeDefinition().name("large").size("1Ti").accessModes(many));

        var ids = volumes.listVolumes(null, null).getVolumes().stream().map(VolumeStatus::getVolumeId).toList();
        equal("the oldest volume is first", ids, List.of(data.getVolumeId(), large.getVolumeId()));
        var volume = volumes.getVolumeStatus(data.getVolumeId(), null);
        equal("a size has a unit without a fraction", volume.getSize(), "1536Mi");
        equal("a volume on this machine is bound", volume.getStatus(), VolumePhase.BOUND);
        equal("the default access mode is ReadWriteOnce", volume.getAccessModes(), List.of(AccessMode.READ_WRITE_ONCE));
        equal("the time of creation is after the start", volume.getCreatedAt().isAfter(started), true);
        volume = volumes.getVolumeStatus(large.getVolumeId(), null);
        equal("the size is as requested", volume.getSize(), "1Ti");
        equal("the access mode is as requested", volume.getAccessModes(), many);
    }

    /** Runs a task that uses every notation that a client may have its own type for. */
    private void runTask() throws ApiException, InterruptedException {
        var resources = new Resources().cpus("0.5").memory("0.25Gi").diskSize("256GB").ports("8080-8090").useSpot(true);
        var definition = new TaskDefinition()
            .name("round-trip")
            .numNodes(1)
            .maxDuration("1h30m")
            .resources(resources)
            .envs(Map.of("TEXT", "text", "NUMBER", 10, "FRACTION", 0.5, "FLAG", true))
            .volumes(Map.of("/data", "data"))
            .run("echo \"$TEXT $NUMBER $FRACTION $FLAG\" > /data/file; cat /data/file");
        var dryRun = tasks.submitTask(definition, true, null).getTaskDryRunResponse();
        var hasJob = dryRun.getManifests().stream().anyMatch(object -> "Job".equals(((Map<?, ?>) object).get("kind")));
        equal("a dry run shows a Job", hasJob, true);

        var submitted = tasks.submitTask(definition, null, "first").getTaskSubmitResponse();
        equal("a submit has a status", submitted.getStatus(), TaskSubmitResponse.StatusEnum.SUBMITTED);
        var repeated = tasks.submitTask(definition, null, "first").getTaskSubmitResponse();
        equal("a repeated submit returns the same task", repeated, submitted);

        var id = submitted.getTaskId();
        var log = tasks.streamTaskLogs(id, null, null, null, null, null);
        equal("the log is the output of the task", log, "text 10 0.5 True\n");
        var status = waitUntilCompleted(id);
        equal("the status has the name", status.getName(), "round-trip");
        equal("a completed task has no reason", status.getReason(), null);
        var node = status.getMetadata().getNodes().get(0);
        equal("the exit code of the node is 0", node.getExitCode(), 0);
        equal("the node has finished", node.getFinishedAt().isBefore(node.getStartedAt()), false);
        var ids = tasks.listTasks(null, null, null, null, null, null).getTasks().stream().map(TaskStatus::getTaskId).toList();
        equal("only this user's task is listed", ids, List.of(id));

        equal("a task is stopped", tasks.stopTask(id).getTaskId(), id);
        equal("no task is left", tasks.stopAllTasks(null).getCount(), 0);
    }

    /** The status of the task when it has completed. */
    private TaskStatus waitUntilCompleted(String id) throws ApiException, InterruptedException {
        var deadline = Instant.now().plus(DEADLINE);
        while (true) {
            var status = tasks.getTaskStatus(id, null);
            // Does not compile if the document lists another state.
            var completed = switch (status.getStatus()) {
                case COMPLETED -> true;
                case FAILED -> throw new AssertionError("not true: the task has not failed: " + status.getMessage());
                case PENDING, RUNNING -> false;
            };
            if (completed) {
                return status;
            }
            equal("the task completes in time", Instant.now().isBefore(deadline), true);
            Thread.sleep(100);
        }
    }

    /** Makes requests that the server refuses. */
    private void makeErrors() throws Exception {
        var missing = refused(404, () -> tasks.getTaskStatus("missing", null));
        equal("404 names the task", ErrorResponse.fromJson(missing).getDetail(), "Task missing not found");

        var resources = new Resources().ports(List.of(8080, "none"));
        var invalid = new TaskDefinition().run("true").maxDuration("soon").resources(resources);
        var body = refused(422, () -> tasks.submitTask(invalid, null, null));
        var detail = HTTPValidationError.fromJson(body).getDetail();
        var locations = detail.stream()
            .map(error -> error.getLoc().stream().map(ValidationErrorLocInner::getActualInstance).toList())
            .toList();
        var expected = List.of(List.of("body", "resources", "ports", 1), List.of("body", "max_duration"));
        equal("422 locates errors", locations, expected);
        var inputs = detail.stream().map(ValidationError::getInput).toList();
        equal("422 contains the input", inputs, List.of("none", "soon"));
    }

    /** Deletes the volumes. */
    private void cleanUp() throws Exception {
        for (var volume : volumes.listVolumes(null, null).getVolumes()) {
            var id = volume.getVolumeId();
            equal("a volume is deleted", volumes.deleteVolume(id).getVolumeId(), id);
            ErrorResponse.fromJson(refused(404, () -> volumes.getVolumeStatus(id, null)));
        }
    }

    private interface Request {
        Object send() throws ApiException;
    }

    /** The body of the error with this status. */
    private static String refused(int status, Request request) {
        try {
            throw new AssertionError("not true: the request is refused\n  actual: " + request.send());
        } catch (ApiException error) {
            equal("the status is " + status, error.getCode(), status);
            return error.getResponseBody();
        }
    }

    private static void equal(String claim, Object actual, Object expected) {
        if (!Objects.equals(actual, expected)) {
            throw new AssertionError("not true: " + claim + "\n  actual:   " + actual + "\n  expected: " + expected);
        }
    }
}
