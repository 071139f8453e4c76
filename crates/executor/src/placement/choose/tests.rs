//! Which alternative and which cluster nodes are chosen, and what is said if there are none.

use proptest::prelude::*;
use serde_json::{Value, json};
use task::TaskDefinition;

use super::{Machine, Models, Placement, choose};
use crate::error::Error;

const PRODUCT: &str = "nvidia.com/gpu.product";

fn machine(labels: &[(&str, &str)], cpus: &str, gpus: u32) -> Machine {
    let amounts = [
        ("cpu", cpus.to_owned()),
        ("memory", "64Gi".to_owned()),
        ("nvidia.com/gpu", gpus.to_string()),
    ];
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    Machine {
        name: "m".to_owned(),
        is_ready: true,
        labels: labels.iter().map(owned).collect(),
        allocatable: amounts
            .into_iter()
            .map(|(name, amount)| (name.to_owned(), amount))
            .collect(),
    }
}

fn cluster() -> Vec<Machine> {
    vec![
        machine(&[(PRODUCT, "NVIDIA-A100-SXM4-80GB")], "32", 8),
        machine(
            &[(PRODUCT, "NVIDIA-L4"), ("karpenter.sh/capacity-type", "spot")],
            "8",
            1,
        ),
        machine(&[(PRODUCT, "NVIDIA-A100-SXM4-40GB")], "16", 4),
    ]
}

fn placed(resources: &Value, machines: Option<&[Machine]>) -> Result<Placement, Vec<String>> {
    let body = json!({"run": "true", "resources": resources});
    let definition = TaskDefinition::parse(&body, 1).unwrap();
    choose(&definition, machines, false).map_err(|error| match error {
        Error::Unplaceable { reasons } => reasons,
        other => panic!("{other}"),
    })
}

fn values(placement: &Placement) -> Vec<&str> {
    let models = placement
        .models
        .iter()
        .flat_map(|models| models.values.iter().flatten());
    models.map(String::as_str).collect()
}

#[test]
fn a_model_selects_the_nodes_that_have_it() {
    let cluster = cluster();
    let placement = placed(&json!({"accelerators": "A100:4"}), Some(&cluster)).unwrap();
    assert_eq!(values(&placement), ["NVIDIA-A100-SXM4-40GB", "NVIDIA-A100-SXM4-80GB"]);
    assert_eq!(placement.warnings, [] as [&str; 0]);
    let placement = placed(&json!({"accelerators": "A100-80GB"}), Some(&cluster)).unwrap();
    assert_eq!(values(&placement), ["NVIDIA-A100-SXM4-80GB"]);
    assert!(
        placed(&json!({"accelerators": 1}), Some(&cluster))
            .unwrap()
            .models
            .is_none()
    );
}

#[test]
fn an_unknown_model_is_refused_with_what_there_is() {
    let reasons = placed(&json!({"accelerators": "H200"}), Some(&cluster())).unwrap_err();
    assert_eq!(
        reasons,
        ["no cluster node has the accelerator `H200`; this cluster has A100-SXM4-40GB, A100-SXM4-80GB, L4"]
    );
    let body = json!({"run": "true", "resources": {"accelerators": "H200"}});
    let definition = TaskDefinition::parse(&body, 1).unwrap();
    let placement = choose(&definition, Some(&cluster()), true).unwrap();
    assert_eq!(values(&placement), ["H200", "h200"]);
}

#[test]
fn without_labels_or_permission_any_gpu_is_used_with_a_warning() {
    let plain = [machine(&[], "8", 2)];
    for machines in [Some(plain.as_slice()), None] {
        let placement = placed(&json!({"accelerators": "H200:2"}), machines).unwrap();
        assert!(placement.models.is_none());
        let warning = &placement.warnings[0];
        assert!(
            warning.starts_with("any model may be used instead of `H200`"),
            "{warning}"
        );
    }
}

#[test]
fn models_in_order_are_preferred_in_this_order() {
    let cluster = cluster();
    let placement = placed(&json!({"accelerators": ["L4", "A100-80GB", "T4"]}), Some(&cluster)).unwrap();
    let expected = Models {
        label: PRODUCT,
        values: vec![vec!["NVIDIA-L4".to_owned()], vec!["NVIDIA-A100-SXM4-80GB".to_owned()]],
        is_ordered: true,
    };
    assert_eq!(placement.models, Some(expected));
    let placement = placed(&json!({"accelerators": {"L4": 1, "A100": 1}}), Some(&cluster)).unwrap();
    assert!(!placement.models.unwrap().is_ordered);
    let any_of = json!({"any_of": [{"infra": "aws", "accelerators": "T4"}, {"accelerators": "L4"}]});
    assert_eq!(values(&placed(&any_of, Some(&cluster)).unwrap()), ["NVIDIA-L4"]);
}

#[test]
fn the_first_alternative_that_fits_is_used() {
    let cluster = cluster();
    let ordered = json!({"cpus": 4, "ordered": [
        {"accelerators": "A100:16"}, {"accelerators": "A100:8", "cpus": 64}, {"accelerators": "L4", "memory": 32},
    ]});
    let placement = placed(&ordered, Some(&cluster)).unwrap();
    assert_eq!(placement.resources.cpus.unwrap().as_str(), "4");
    assert_eq!(
        placement.warnings,
        ["uses alternative 3 of 3: L4:1, 4 CPUs, 32Gi of memory"]
    );
    assert_eq!(placement.next, []);
    let placement = placed(
        &json!({"ordered": [{"cpus": 99}, {"cpus": 2}, {"cpus": 1}]}),
        Some(&cluster),
    )
    .unwrap();
    assert_eq!(placement.resources.cpus.unwrap().as_str(), "2");
    let next: Vec<_> = placement
        .next
        .iter()
        .map(|next| next.resources.cpus.as_ref().unwrap().as_str())
        .collect();
    assert_eq!(next, ["1"], "what no machine has is not tried");
    let placement = placed(&json!({"any_of": [{"cpus": 99}, {"cpus": 98}]}), Some(&cluster)).unwrap();
    assert_eq!(placement.next, []);
    assert_eq!(placement.resources.cpus.unwrap().as_str(), "99");
    assert_eq!(
        placement.warnings[1],
        "no cluster node has 99 CPUs (at most 32); the task stays pending until one is added"
    );
}

#[test]
fn spot_instances_are_demanded_by_the_label_that_exists() {
    let cluster = cluster();
    let placement = placed(&json!({"use_spot": true}), Some(&cluster)).unwrap();
    assert_eq!(placement.spot[0].key, "karpenter.sh/capacity-type");
    assert!(
        placed(&json!({"use_spot": false}), Some(&cluster))
            .unwrap()
            .spot
            .is_empty()
    );
    let either = json!({"any_of": [{"use_spot": true}, {"use_spot": false}]});
    assert!(placed(&either, Some(&cluster[..1])).unwrap().spot.is_empty());
}

#[test]
fn on_demand_nodes_are_better_than_none_and_a_warning_says_so() {
    let cluster = cluster();
    let spot = json!({"use_spot": true});
    for (machines, reason) in [
        (Some(&cluster[..1]), "no cluster node is a spot instance"),
        (None, "the server has no permission to list cluster nodes"),
    ] {
        let placement = placed(&spot, machines).unwrap();
        let warning = format!("on-demand nodes may be used: {reason}");
        assert_eq!((placement.spot, placement.warnings), (Vec::new(), vec![warning]));
    }
    let body = json!({"run": "true", "resources": spot});
    let definition = TaskDefinition::parse(&body, 1).unwrap();
    assert_eq!(choose(&definition, Some(&cluster[..1]), true).unwrap().spot.len(), 2);
}

#[test]
fn local_disk_counts_where_it_is_reported() {
    let with_disk = |cpus: &str, disk: &str| {
        let mut machine = machine(&[], cpus, 0);
        machine
            .allocatable
            .insert("ephemeral-storage".to_owned(), disk.to_owned());
        machine
    };
    let cluster = [with_disk("8", "100Gi"), with_disk("2", "500Gi")];
    let placement = placed(
        &json!({"any_of": [{"cpus": 4, "disk_size": 400}, {"cpus": 1, "disk_size": 300}]}),
        Some(&cluster),
    );
    assert_eq!(placement.unwrap().resources.disk.unwrap().as_str(), "300Gi");
    let warnings = |machines: &[Machine]| placed(&json!({"disk_size": 1024}), Some(machines)).unwrap().warnings;
    assert_eq!(
        warnings(&cluster),
        ["no cluster node has 1024Gi of local disk (at most 500Gi); the task stays pending until one is added"]
    );
    assert_eq!(
        warnings(&[machine(&[], "8", 0)]),
        [] as [&str; 0],
        "the size is unknown"
    );
}

proptest! {
    #[test]
    fn what_is_chosen_is_one_of_the_alternatives(
        cpus in proptest::collection::vec(1_u32..100, 1..6),
        largest in 1_u32..100,
        is_ordered in any::<bool>(),
    ) {
        let all: Vec<Value> = cpus.iter().map(|cpus| json!({"cpus": cpus})).collect();
        let key = if is_ordered { "ordered" } else { "any_of" };
        let machines = [machine(&[], &largest.to_string(), 0)];
        let resources = Value::Object([(key.to_owned(), json!(all))].into_iter().collect());
        let placement = placed(&resources, Some(&machines)).unwrap();
        let chosen: u32 = placement.resources.cpus.unwrap().as_str().parse().unwrap();
        let expected = cpus.iter().copied().find(|cpus| *cpus <= largest).unwrap_or(cpus[0]);
        prop_assert_eq!(chosen, expected);
    }
}

#[test]
fn a_label_of_skypilot_comes_before_all_others() {
    let labels = [("skypilot.co/accelerator", "h100"), (PRODUCT, "NVIDIA-H100-80GB-HBM3")];
    let placement = placed(&json!({"accelerators": "H100"}), Some(&[machine(&labels, "8", 1)])).unwrap();
    assert_eq!(placement.models.unwrap().label, "skypilot.co/accelerator");
}

#[test]
fn each_vendor_has_its_own_label() {
    let amd = Machine {
        allocatable: [("amd.com/gpu".to_owned(), "8".to_owned())].into_iter().collect(),
        ..machine(&[], "64", 0)
    };
    let both = [machine(&[(PRODUCT, "NVIDIA-H100-80GB-HBM3")], "64", 8), amd];
    let placement = placed(&json!({"accelerators": "MI300X:8"}), Some(&both)).unwrap();
    assert!(
        placement.models.is_none() && placement.warnings[0].starts_with("any model may be used instead of `MI300X`")
    );
}

#[test]
fn what_is_left_out_is_said_with_its_number() {
    let cluster = cluster();
    let either = json!({"any_of": [{"accelerators": "H200"}, {"accelerators": "L4"}]});
    let placement = placed(&either, Some(&cluster)).unwrap();
    assert!(
        placement.warnings[0].starts_with("alternative 1 of 2 is left out: no cluster node has"),
        "{placement:?}"
    );
}
