//! Volumes for one run, volumes that several nodes share, and ports.

use std::time::Duration;

use e2e::{Backend, CommandLine, TaskBuilder, World, eventually, small_task};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Service};
use k8s_openapi::api::networking::v1::Ingress;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;
use task::TaskState;

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_with_a_size_is_empty_in_each_attempt_and_is_deleted_with_the_task() {
    let world = World::own(&[]).await;
    let task = small_task("ls /scratch | wc -l; touch /scratch/x; ls /scratch; [ $NODE_RANK = 0 ] || exit 0; case $HOSTNAME in *attempt-2*) exit 0;; esac; exit 3")
        .recovery(json!({"max_restarts_on_errors": 1}));
    let mut task = serde_json::to_value(task).unwrap();
    task["volumes"] = json!({"/scratch": {"size": "10Mi"}});
    let id = world.api.submit(&task).await;
    let status = world.api.wait_for(&id, TaskState::Completed).await;
    assert_eq!(status.metadata.attempts.len(), 1);
    let log = world.api.log_text(&id, "").await;
    let lines: Vec<&str> = log.lines().map(|line| line.rsplit(" | ").next().unwrap()).collect();
    assert_eq!(lines, ["0", "x", "0", "x"], "{log}");
    assert!(world.api.volumes().await.is_empty(), "it is none of the user's volumes");
    let _ = world.api.stop(&id).await.ok();
    eventually(Duration::from_secs(60), "its claims to be deleted", async || {
        let claims = world
            .cluster
            .api::<PersistentVolumeClaim>()
            .list(&ListParams::default())
            .await
            .unwrap();
        claims.items.is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_nodes_need_a_volume_that_they_can_share() {
    let world = World::new().await;
    let name = world.api.create_small_volume("for-one").await;
    assert!(!name.is_empty());
    let count = world.api.get("/nodes").await.ok()["nodes"].as_array().unwrap().len();
    let task = small_task("true").nodes(2).volume("/data", "for-one");
    let answer = world.api.try_submit(&task).await;
    if count == 1 {
        // On a single machine, all nodes can mount it.
        assert_eq!(answer.status, 200);
    } else {
        let (place, _, message) = answer.invalid();
        assert_eq!(place, "body.volumes./data");
        assert!(message.contains("ReadWriteMany"), "{message}");
    }
    let many = json!({"name": "for-many", "size": "1Mi", "access_modes": ["ReadWriteMany"]});
    world.api.create_volume(&many).await;
    let shared = small_task("true").nodes(2).volume("/data", "for-many");
    assert_eq!(world.api.try_submit(&shared).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ports_of_a_task_can_be_reached_at_the_addresses_in_its_status() {
    let world = World::new().await;
    // `bash` alone can connect, but not listen.
    let server = "exec python3 -m http.server 8099 --bind 0.0.0.0";
    let mut task = serde_json::to_value(small_task(server).name("web")).unwrap();
    task["resources"]["ports"] = json!([8099]);
    let id = world.api.submit(&task).await;
    let cli = CommandLine::of(&world);
    let status = eventually(Duration::from_secs(60), "an address", async || {
        let status = world.api.status(&id).await;
        (!status.metadata.endpoints.is_empty()).then_some(status)
    })
    .await;
    let endpoint = status.metadata.endpoints[0].clone();
    assert!(cli.run(&["jobs", "status", &id]).ok().contains(&endpoint));
    if Backend::chosen() == Backend::Embedded {
        eventually(Duration::from_secs(30), "the port to answer", async || {
            reqwest::get(format!("http://{endpoint}/"))
                .await
                .ok()
                .filter(|answer| answer.status() == 200)
        })
        .await;
    } else {
        let name = format!("task-{id}-ports");
        assert_eq!(endpoint, format!("{name}.{}.svc:8099", status.metadata.namespace));
        let service = world.cluster.api::<Service>().get(&name).await.unwrap();
        let spec = service.spec.clone().unwrap();
        assert_eq!(spec.ports.unwrap()[0].port, 8099);
        assert_eq!(spec.selector.unwrap()["node-idx"], "0");
        assert!(service.owner_references().iter().any(|owner| owner.kind == "ConfigMap"));
    }
    let _ = world.api.stop(&id).await.ok();
    let plain = world.api.submit(&TaskBuilder::new("true")).await;
    assert!(world.api.status(&plain).await.metadata.endpoints.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_of_a_load_balancer_is_in_the_status() {
    if Backend::Embedded.lacks("it has no Services") {
        return;
    }
    let world = World::own(&["--ports", "load-balancer"]).await;
    let mut task = serde_json::to_value(small_task("sleep 600")).unwrap();
    task["resources"]["ports"] = json!([8099]);
    let id = world.api.submit(&task).await;
    let name = format!("task-{id}-ports");
    let status = world.api.status(&id).await;
    let inside = format!("{name}.{}.svc:8099", status.metadata.namespace);
    assert_eq!(status.metadata.endpoints, [inside.as_str()]);
    // As the cloud's controller does.
    let services = world.cluster.api::<Service>();
    let set = async |ingress: serde_json::Value| {
        let patch = Patch::Merge(json!({"status": {"loadBalancer": {"ingress": ingress}}}));
        services
            .patch_status(&name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    };
    let shows = async |endpoints: &[&str]| {
        eventually(Duration::from_secs(30), "the addresses", async || {
            (world.api.status(&id).await.metadata.endpoints == endpoints).then_some(())
        })
        .await;
    };
    set(json!([{"ip": "203.0.113.7"}])).await;
    shows(&["203.0.113.7:8099", &inside]).await;
    set(json!([])).await;
    shows(&[&inside]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_port_has_a_host_name_with_an_ingress() {
    if Backend::Embedded.lacks("it has no Services") {
        return;
    }
    let domain = ["--ports", "ingress", "--ingress-domain", "apps.example.com"];
    let world = World::own(&domain).await;
    let mut task = serde_json::to_value(small_task("sleep 600").nodes(2)).unwrap();
    task["resources"]["ports"] = json!([8099, 8100]);
    let id = world.api.submit(&task).await;
    let endpoints = world.api.status(&id).await.metadata.endpoints;
    let urls = [8099, 8100].map(|port| format!("http://{id}-{port}.apps.example.com"));
    assert_eq!(endpoints[..2], urls);
    let name = format!("task-{id}-ports");
    let ingresses = world.cluster.api::<Ingress>();
    let made = ingresses.get(&name).await.unwrap();
    assert!(made.owner_references().iter().any(|owner| owner.kind == "ConfigMap"));
    let rules = made.spec.unwrap().rules.unwrap();
    let hosts: Vec<String> = rules.into_iter().filter_map(|rule| rule.host).collect();
    assert_eq!(hosts, [8099, 8100].map(|port| format!("{id}-{port}.apps.example.com")));
    let _ = world.api.stop(&id).await.ok();
    eventually(Duration::from_secs(60), "the Ingress to be deleted", async || {
        ingresses.get_opt(&name).await.unwrap().is_none().then_some(())
    })
    .await;
}
