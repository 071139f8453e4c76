// Uses the server at the given URL with the client that oapi-codegen generated.
package main

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"reflect"
	"slices"
	"time"

	"clients/api"
)

var started = time.Now()

func main() {
	log.SetFlags(0)
	user := func(_ context.Context, request *http.Request) error {
		request.Header.Set("X-User", "oapi-codegen")
		return nil
	}
	client := must(api.NewClientWithResponses(os.Args[1], api.WithRequestEditorFn(user)))
	// The deadline of the whole round trip, including the log and the wait for the end of the task.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	createVolumes(ctx, client)
	runTask(ctx, client)
	makeErrors(ctx, client)
	cleanUp(ctx, client)
}

// createVolumes creates two volumes, the first of which the task mounts.
func createVolumes(ctx context.Context, client *api.ClientWithResponses) {
	data := must(client.CreateVolumeWithResponse(ctx, api.VolumeDefinition{Name: "data", Size: "1.5Gi"}))
	found("a volume is created", data.JSON200, data.Body)
	many := []api.AccessMode{api.ReadWriteMany}
	definition := api.VolumeDefinition{Name: "large", Size: "1Ti", AccessModes: &many}
	large := must(client.CreateVolumeWithResponse(ctx, definition))
	found("a volume of 1Ti is created", large.JSON200, large.Body)
	equal("a created volume has a status", large.JSON200.Status, api.Created)

	list := must(client.ListVolumesWithResponse(ctx, nil))
	var ids []string
	for _, volume := range found("volumes are listed", list.JSON200, list.Body).Volumes {
		ids = append(ids, volume.VolumeId)
	}
	equal("the oldest volume is first", ids, []string{data.JSON200.VolumeId, large.JSON200.VolumeId})

	response := must(client.GetVolumeStatusWithResponse(ctx, ids[0], nil))
	volume := found("a volume has a status", response.JSON200, response.Body)
	equal("a size has a unit without a fraction", volume.Size, "1536Mi")
	equal("a volume on this machine is bound", volume.Status, api.VolumePhaseBound)
	equal("the default access mode is ReadWriteOnce", volume.AccessModes, []api.AccessMode{api.ReadWriteOnce})
	equal("the time of creation is after the start", volume.CreatedAt.After(started), true)
	response = must(client.GetVolumeStatusWithResponse(ctx, ids[1], nil))
	volume = found("a volume has a status", response.JSON200, response.Body)
	equal("the size is as requested", volume.Size, "1Ti")
	equal("the access mode is as requested", volume.AccessModes, many)
}

// runTask runs a task that uses every notation that a client may have its own type for.
func runTask(ctx context.Context, client *api.ClientWithResponses) {
	task := api.TaskDefinition{
		Name:        new("round-trip"),
		NumNodes:    new(1),
		MaxDuration: new("1h30m"),
		Resources: &api.Resources{
			Cpus: "0.5", Memory: "0.25Gi", DiskSize: "256GB", Ports: "8080-8090", UseSpot: true,
		},
		Envs:    &map[string]any{"TEXT": "text", "NUMBER": 10, "FRACTION": 0.5, "FLAG": true},
		Volumes: &map[string]any{"/data": "data"},
		Run:     `echo "$TEXT $NUMBER $FRACTION $FLAG" > /data/file; cat /data/file`,
	}
	response := must(client.SubmitTaskWithResponse(ctx, &api.SubmitTaskParams{DryRun: new(true)}, task))
	answer := must(found("a dry run succeeds", response.JSON200, response.Body).ValueByDiscriminator())
	dryRun, ok := answer.(api.TaskDryRunResponse)
	equal("a dry run has its own type", ok, true)
	isJob := func(object api.KubernetesObject) bool { return object["kind"] == "Job" }
	equal("a dry run shows a Job", slices.ContainsFunc(dryRun.Manifests, isJob), true)

	id := submit(ctx, client, task)
	equal("a repeated submit returns the same task", submit(ctx, client, task), id)

	// Without `WithResponse`, the body can be read while it is written.
	stream := must(client.StreamTaskLogs(ctx, id, nil))
	defer stream.Body.Close()
	equal("the log is the output of the task", string(must(io.ReadAll(stream.Body))), "text 10 0.5 True\n")
	status := waitUntilCompleted(ctx, client, id)
	equal("the status has the name", status.Name, "round-trip")
	equal("a completed task has no reason", status.Reason, nil)
	node := status.Metadata.Nodes[0]
	equal("the exit code of the node is 0", node.ExitCode, new(int32(0)))
	equal("the node has started", found("a start is a time", node.StartedAt, nil).IsZero(), false)

	list := must(client.ListTasksWithResponse(ctx, nil))
	var ids []string
	for _, task := range found("tasks are listed", list.JSON200, list.Body).Tasks {
		ids = append(ids, task.TaskId)
	}
	equal("only this user's task is listed", ids, []string{id})

	stopped := must(client.StopTaskWithResponse(ctx, id))
	equal("a task is stopped", found("a stop has a type", stopped.JSON200, stopped.Body).TaskId, id)
	all := must(client.StopAllTasksWithResponse(ctx, nil))
	equal("no task is left", found("a stop has a type", all.JSON200, all.Body).Count, 0)
}

// submit submits the task, or finds it if it exists, and returns its ID.
func submit(ctx context.Context, client *api.ClientWithResponses, task api.TaskDefinition) string {
	response := must(client.SubmitTaskWithResponse(ctx, &api.SubmitTaskParams{IdempotencyKey: new("first")}, task))
	answer := must(found("a submit succeeds", response.JSON200, response.Body).ValueByDiscriminator())
	submitted, ok := answer.(api.TaskSubmitResponse)
	equal("a submit has its own type", ok, true)
	return submitted.TaskId
}

// waitUntilCompleted returns the status of the task when it has completed. The context has the deadline.
func waitUntilCompleted(ctx context.Context, client *api.ClientWithResponses, id string) *api.TaskStatus {
	for {
		response := must(client.GetTaskStatusWithResponse(ctx, id, nil))
		status := found("a task has a status", response.JSON200, response.Body)
		if status.Status == api.TaskStateCompleted {
			return status
		}
		equal("the document lists every state", status.Status.Valid(), true)
		equal("the task has not failed", status.Status == api.TaskStateFailed, false)
		time.Sleep(100 * time.Millisecond)
	}
}

// makeErrors makes requests that the server refuses.
func makeErrors(ctx context.Context, client *api.ClientWithResponses) {
	missing := must(client.GetTaskStatusWithResponse(ctx, "missing", nil))
	detail := found("404 has a type", missing.JSON404, missing.Body).Detail
	equal("404 names the task", detail, "Task missing not found")

	task := api.TaskDefinition{Run: "true", MaxDuration: new("soon"), Resources: &api.Resources{Ports: []any{8080, "none"}}}
	response := must(client.SubmitTaskWithResponse(ctx, nil, task))
	invalid := found("422 has a type", response.JSON422, response.Body).Detail
	equal("422 lists both errors", len(invalid), 2)
	equal("422 contains the input", []any{invalid[0].Input, invalid[1].Input}, []any{"none", "soon"})
	index := must(invalid[0].Loc[3].AsValidationErrorLoc1())
	equal("422 has the index of the item", index, 1)
	key := must(invalid[1].Loc[1].AsValidationErrorLoc0())
	equal("422 has the key of the field", key, "max_duration")
	equal("422 locates errors", string(must(json.Marshal(invalid[0].Loc))), `["body","resources","ports",1]`)
}

// cleanUp deletes the volumes.
func cleanUp(ctx context.Context, client *api.ClientWithResponses) {
	list := must(client.ListVolumesWithResponse(ctx, nil))
	for _, volume := range found("volumes are listed", list.JSON200, list.Body).Volumes {
		deleted := must(client.DeleteVolumeWithResponse(ctx, volume.VolumeId))
		equal("a volume is deleted", found("it has a type", deleted.JSON200, deleted.Body).VolumeId, volume.VolumeId)
		missing := must(client.GetVolumeStatusWithResponse(ctx, volume.VolumeId, nil))
		found("a deleted volume is not found", missing.JSON404, missing.Body)
	}
}

// must returns the value, or exits if there is an error.
func must[T any](value T, err error) T {
	if err != nil {
		log.Fatalf("not true: the request succeeds\n  actual: %v", err)
	}
	return value
}

// found returns the typed body, which is nil if the response has another status.
func found[T any](claim string, typed *T, body []byte) *T {
	if typed == nil {
		log.Fatalf("not true: %s\n  actual: %s", claim, body)
	}
	return typed
}

// equal exits with the claim and both values unless they are equal.
func equal[T any](claim string, actual, expected T) {
	if !reflect.DeepEqual(actual, expected) {
		log.Fatalf("not true: %s\n  actual:   %v\n  expected: %v", claim, actual, expected)
	}
}
