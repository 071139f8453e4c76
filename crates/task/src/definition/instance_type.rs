//! SkyPilot's names of instance types on Kubernetes, e.g., `8CPU--32GB--H100:1`.

use super::accelerators::{Accelerators, parse_text};
use crate::quantity::Quantity;

/// What the name of an instance type says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InstanceType {
    pub cpus: Quantity,
    pub memory: Quantity,
    pub accelerators: Option<Accelerators>,
}

/// Parses a name. Returns `None` for the names of other clouds.
pub(super) fn parse(name: &str) -> Option<InstanceType> {
    let mut parts = name.split("--");
    let cpus = parts.next()?.strip_suffix("CPU")?;
    let memory = parts.next()?.strip_suffix("GB")?;
    let accelerators = match parts.next() {
        Some(accelerators) => Some(parse_text(accelerators)?),
        None => None,
    };
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if parts.next().is_some() || !is_number(cpus) || !is_number(memory) {
        return None;
    }
    Some(InstanceType {
        cpus: Quantity::parse_cpus(cpus).ok()?,
        memory: Quantity::parse_memory(memory).ok()?,
        accelerators,
    })
}

/// The keys of `resources` with what the name of an instance type says.
pub(super) fn stated_keys(name: &str) -> &'static [&'static str] {
    const ALL: &[&str] = &["cpus", "memory", "accelerators", "gpus"];
    match parse(name) {
        Some(InstanceType { accelerators: None, .. }) => &ALL[..2],
        Some(_) => ALL,
        None => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_name_of_kubernetes_says_what_a_node_has() {
        let instance = parse("8CPU--32GB--H100:2").unwrap();
        assert_eq!((instance.cpus.as_str(), instance.memory.as_str()), ("8", "32Gi"));
        assert_eq!(instance.accelerators.unwrap().count, 2);
        assert!(parse("0.5CPU--1.5GB").unwrap().accelerators.is_none());
        for name in [
            "m5.large",
            "4CPU",
            "4CPU--16",
            "4CPU--16GB--",
            "4CPU--16GB--H100:1--x",
            "CPU--GB",
            "4mCPU--1GB",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
