//! Tasks: what is accepted and rejected, and what a failed submit leaves behind.

use std::time::{Duration, Instant};

use e2e::{Backend, TaskBuilder, World, eventually, raw};
use futures::future::join_all;
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;
use task::TaskState;

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_submit_leaves_no_objects() {
    let world = World::own(&[]).await;
    world.cluster.set_quota(json!({"count/jobs.batch": "1"})).await;
    let task = TaskBuilder::new("true").nodes(3);
    let detail = world.api.try_submit(&task).await.error(500);
    assert!(
        detail.starts_with("Failed to submit task: ") && detail.contains("exceeded quota"),
        "{detail}"
    );
    assert_eq!(world.cluster.all_jobs().await.len(), 0);
    assert_eq!(world.cluster.owners().await.len(), 0);
    assert!(world.api.task_ids().await.is_empty());
    // The released quota can be used again.
    eventually(Duration::from_secs(30), "the quota to be released", async || {
        let is_submitted = world.api.try_submit(&TaskBuilder::new("true")).await.status == 200;
        if !is_submitted {
            world.cluster.recount_quota().await;
        }
        is_submitted.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_their_path_and_nothing_is_created() {
    let world = World::own(&[]).await;
    for (task, path) in [
        (json!({"run": "x", "name": "my task"}), "body.name"),
        (
            json!({"run": "x", "resources": {"cpus": "lots"}}),
            "body.resources.cpus",
        ),
        (
            json!({"run": "x", "resources": {"memory": "much"}}),
            "body.resources.memory",
        ),
        (
            json!({"run": "x", "resources": {"accelerators": "V100:many"}}),
            "body.resources.accelerators",
        ),
        (json!({"run": "x", "envs": {"MY-VAR": "x"}}), "body.envs.MY-VAR"),
        (json!({"run": "x".repeat(500_001)}), "body.run"),
    ] {
        let answer = world.api.try_submit(&task).await;
        assert_eq!(answer.invalid().0, path);
    }
    for (volume, path) in [
        (json!({"name": "v", "size": "big"}), "body.size"),
        (
            json!({"name": "v", "size": "1Gi", "access_modes": ["Sometimes"]}),
            "body.access_modes.0",
        ),
        (json!({"name": "a b", "size": "1Gi"}), "body.name"),
    ] {
        assert_eq!(world.api.post("/volumes/create", &volume).await.invalid().0, path);
    }
    assert!(world.cluster.all_jobs().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_keys_are_rejected_with_a_suggestion() {
    let world = World::new().await;
    let answer = world.api.try_submit(&json!({"run": "x", "num_node": 2})).await;
    let (path, kind, message) = answer.invalid();
    assert_eq!((path.as_str(), kind.as_str()), ("body.num_node", "extra_forbidden"));
    assert!(message.contains("did you mean `num_nodes`?"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_with_nan_is_rejected() {
    let world = World::new().await;
    let headers: [(&str, &[u8]); 2] = [("X-User", b"alice"), ("Content-Type", b"application/json")];
    let answer = raw(
        world.api.base(),
        "POST",
        "/tasks/submit",
        &headers,
        Some(br#"{"num_nodes": NaN, "run": "x"}"#),
    );
    assert_eq!(answer.status, 422);
    assert_eq!(answer.json()["detail"][0]["type"], "json_invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_converted_as_in_skypilot() {
    let world = World::new().await;
    let id = world
        .api
        .submit(&TaskBuilder::new("echo $E").env("E", 10).cpus(0.01).memory(0.1))
        .await;
    assert_eq!(world.api.log_text(&id, "").await, "10\n");
    let job = serde_json::to_value(&world.cluster.jobs(&id).await[0]).unwrap();
    let limits = &job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"];
    assert_eq!(limits["cpu"], "10m");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_invalid_in_kubernetes_is_kept() {
    let world = World::new().await;
    for name in ["My_Task", "a.b", &"n".repeat(253)] {
        let task = TaskBuilder::new("true").name(name).nodes(2);
        let id = world.api.submit(&task).await;
        assert_eq!(world.api.status(&id).await.name, name);
        world.api.wait_for(&id, TaskState::Completed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dollar_signs_reach_bash_unchanged() {
    let world = World::new().await;
    let script = r#"printf '%s|' '$$' '$(HOME)' '$$(HOME)' "$A" "$(echo sub)" '$(NODE_RANK)'"#;
    let task = TaskBuilder::new(script).setup(script).env("A", "$$ $(NODE_RANK) $A");
    let id = world.api.submit(&task).await;
    let expected = "$$|$(HOME)|$$(HOME)|$$ $(NODE_RANK) $A|sub|$(NODE_RANK)|";
    assert_eq!(world.api.log_text(&id, "").await, format!("{expected}{expected}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_setup_fails_the_node_and_run_does_not_start() {
    let world = World::new().await;
    let id = world
        .api
        .submit(&TaskBuilder::new("echo never").setup("echo setting up; (exit 4)"))
        .await;
    let status = world.api.wait_for(&id, TaskState::Failed).await;
    assert_eq!(status.message.as_deref(), Some("setup failed with exit code 4"));
    assert_eq!(status.metadata.nodes[0].exit_code, Some(4));
    assert_eq!(world.api.log_text(&id, "").await, "setting up\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_may_exceed_the_limit_of_an_argument() {
    let world = World::new().await;
    let script = format!(
        "cat >/tmp/text <<'END'\n{}\nEND\nsha256sum </tmp/text; wc -c </tmp/text",
        "x$$\n".repeat(50_000)
    );
    let id = world.api.run(&script).await;
    let log = world.api.log_text(&id, "").await;
    let text = format!("{}\n", "x$$\n".repeat(50_000));
    assert_eq!(
        log,
        format!("{}  -\n{}\n", crate::logs::sha256(text.as_bytes()), text.len())
    );
    assert_eq!(world.cluster.jobs(&id).await.len(), 1);
    assert_eq!(world.api.stop(&id).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_terminates_the_processes() {
    let world = World::new().await;
    let id = world
        .api
        .run("trap 'echo stopped; exit 0' TERM; echo started; sleep 600 & wait")
        .await;
    let plain = world.api.submit(&TaskBuilder::new("echo up; sleep 600").nodes(2)).await;
    for task in [&id, &plain] {
        world.api.wait_for(task, TaskState::Running).await;
    }
    let following = tokio::spawn({
        let (api, id) = (world.api.clone(), id.clone());
        async move { api.log_text(&id, "").await }
    });
    world.api.wait_for_log(&id, |log| log == "started\n").await;
    // The kernel drops signals for process 1 that it does not handle yet.
    let both_up = |log: &str| log.matches("up\n").count() == 2;
    world.api.wait_for_log(&plain, both_up).await;
    let start = Instant::now();
    for task in [&id, &plain] {
        assert_eq!(world.api.stop(task).await.ok()["status"], "stopped");
        assert_eq!(world.api.try_status(task).await.status, 404);
        assert!(world.cluster.jobs(task).await.is_empty());
    }
    // A follower sees the last lines, and then the end.
    assert_eq!(following.await.unwrap(), "started\nstopped\n");
    eventually(Duration::from_secs(15), "the pods to be deleted", async || {
        let of_ours = |pod: &k8s_openapi::api::core::v1::Pod| {
            let labels = pod.metadata.labels.as_ref();
            labels
                .and_then(|labels| labels.get("task-id"))
                .is_some_and(|task| *task == id || *task == plain)
        };
        (!world.cluster.pods().await.iter().any(of_ours)).then_some(())
    })
    .await;
    assert!(start.elapsed() < Duration::from_secs(15));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_concurrent_stops_succeed_or_find_nothing() {
    let world = World::new().await;
    let id = world.api.submit(&TaskBuilder::new("sleep 600").nodes(2)).await;
    let answers = join_all((0..10).map(|_| world.api.stop(&id))).await;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert!(statuses.contains(&200), "{statuses:?}");
    assert!(
        statuses.iter().all(|status| matches!(status, 200 | 404)),
        "{statuses:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_all_stops_the_others_when_one_cannot_be_deleted() {
    if Backend::Embedded.lacks("it has no admission policies that could deny a delete") {
        return;
    }
    let world = World::own(&[]).await;
    let stubborn = world.api.submit(&TaskBuilder::new("sleep 600").name("stubborn")).await;
    let others = join_all((0..3).map(|_| world.api.run("sleep 600"))).await;
    let name = world.cluster.namespace.clone();
    let policy: ValidatingAdmissionPolicy = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
                "resourceRules": [{"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["jobs"]}],
            },
            "validations": [{"expression": "!oldObject.metadata.name.startsWith('stubborn')", "message": "not this one"}],
        },
    }))
    .unwrap();
    let binding: ValidatingAdmissionPolicyBinding = serde_json::from_value(json!({
        "metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]},
    }))
    .unwrap();
    world
        .cluster
        .global()
        .create(&PostParams::default(), &policy)
        .await
        .unwrap();
    world
        .cluster
        .global()
        .create(&PostParams::default(), &binding)
        .await
        .unwrap();
    // kube-apiserver takes a moment to apply a policy.
    let job = world.cluster.jobs(&stubborn).await[0].name_any();
    eventually(Duration::from_secs(30), "the policy to take effect", async || {
        let rehearsal = DeleteParams::default().dry_run();
        world
            .cluster
            .api::<Job>()
            .delete(&job, &rehearsal)
            .await
            .err()
            .map(drop)
    })
    .await;
    let detail = world.api.post("/tasks/stop", &json!(null)).await.error(500);
    let deleted = DeleteParams::default();
    let _ = world
        .cluster
        .global::<ValidatingAdmissionPolicyBinding>()
        .delete(&name, &deleted)
        .await;
    let _ = world
        .cluster
        .global::<ValidatingAdmissionPolicy>()
        .delete(&name, &deleted)
        .await;
    assert!(
        detail.contains("stopped 3 tasks") && detail.contains(&stubborn),
        "{detail}"
    );
    assert!(detail.contains("not this one"), "{detail}");
    assert_eq!(world.api.task_ids().await, [stubborn]);
    for id in others {
        assert!(world.cluster.jobs(&id).await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_impossible_id_is_not_found() {
    let world = World::new().await;
    for (path, detail) in [
        ("/tasks/..", "Task .. not found"),
        ("/tasks/%FF", "Task \u{fffd} not found"),
        ("/tasks/%20", "Task   not found"),
        ("/tasks/a,b%3Dc", "Task a,b=c not found"),
        ("/tasks/%C3%A9", "Task é not found"),
        ("/tasks/a%2Fb", "Not Found"),
        ("/tasks/nothere1/logs", "Task nothere1 not found"),
    ] {
        let answer = raw(world.api.base(), "GET", path, &[("X-User", b"alice")], None);
        assert_eq!(
            (answer.status, &answer.json()["detail"]),
            (404, &json!(detail)),
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_without_effect_cause_a_warning() {
    let world = World::new().await;
    let task = json!({"run": "true", "resources": {"disk_tier": "best"}});
    let request = world.api.request(reqwest::Method::POST, "/tasks/submit").json(&task);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(
        response.headers()["warning"],
        "299 - \"`resources.disk_tier` has no effect: the cluster decides\""
    );
}
