//! What tasks used stays known when they are gone.

use std::time::Duration;

use e2e::{CommandLine, World, eventually, small_task};
use serde_json::Value;
use task::TaskState;

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn the_usage_counts_tasks_that_run_and_those_that_are_gone_once() {
    let archive = tempfile::tempdir().unwrap();
    let url = format!("file://{}", archive.path().display());
    let world = World::own(&["--archive", &url]).await;
    let task = small_task("sleep 600").cpus("100m").memory("64Mi");
    let (stopped, running) = (world.api.submit(&task).await, world.api.submit(&task).await);
    for id in [&stopped, &running] {
        let _ = world.api.wait_for(id, TaskState::Running).await;
    }
    let finished = world.api.submit(&small_task("true")).await;
    let _ = world.api.wait_for(&finished, TaskState::Completed).await;
    let _ = world.api.stop(&stopped).await.ok();
    for id in [&stopped, &finished] {
        eventually(LIMIT, "the record", async || {
            let record = world.api.get(&format!("/history/{id}")).await;
            (record.status == 200 && record.ok().get("end").is_some()).then_some(())
        })
        .await;
    }
    let usage = world.api.get("/usage?since=1d").await.ok();
    let alice = &usage["users"][0];
    assert_eq!(
        (&alice["username"], &alice["tasks"]),
        (&Value::from("alice@example.com"), &Value::from(3))
    );
    let (nodes, cpus) = (
        alice["usage"]["node_hours"].as_f64().unwrap(),
        alice["usage"]["cpu_hours"].as_f64().unwrap(),
    );
    assert!(nodes > 0.0 && cpus > 0.0 && cpus <= nodes, "{usage}");
    let nothing = world.api.get("/usage?until=1d").await.ok();
    assert_eq!(nothing["users"], serde_json::json!([]));
    assert_eq!(
        world.api.as_user("bob@example.com").get("/usage").await.ok()["users"],
        serde_json::json!([])
    );
    let table = CommandLine::of(&world).run(&["usage", "--all-users"]).ok();
    assert!(
        table.contains("CPU-HOURS") && table.contains("alice@example.com"),
        "{table}"
    );
}
