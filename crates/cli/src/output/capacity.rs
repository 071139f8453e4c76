//! Formats the capacity of cluster nodes.

use quantity::{NANOS_PER_UNIT, Quantity};
use task::wire::ClusterNode;

use super::print::plural;

const MEBIBYTE: i128 = 1 << 20;
const GIBIBYTE: i128 = 1 << 30;

/// Makes an amount of memory readable: `24683556Ki` becomes `23.5Gi`.
///
/// Rounds down, so that a task that requests the amount fits. Returns invalid quantities unchanged.
pub(crate) fn format_memory(written: &str) -> String {
    let bytes = Quantity::parse(written).map(|quantity| quantity.nanos() / NANOS_PER_UNIT);
    match bytes {
        Some(bytes) if bytes >= GIBIBYTE => {
            let tenths = bytes * 10 / GIBIBYTE;
            match tenths % 10 {
                0 => format!("{}Gi", tenths / 10),
                tenth => format!("{}.{tenth}Gi", tenths / 10),
            }
        }
        Some(bytes) if bytes >= MEBIBYTE => format!("{}Mi", bytes / MEBIBYTE),
        _ => written.to_owned(),
    }
}

/// The largest CPU, memory, and GPU capacity of any ready cluster node, each on its own; `None` if no node is ready.
pub(crate) fn largest_capacity(machines: &[ClusterNode]) -> Option<String> {
    let ready = || machines.iter().filter(|machine| machine.ready);
    let by_value = |written: &&str| Quantity::parse(written).map_or(0, Quantity::nanos);
    let cpus = ready().map(|machine| machine.cpus.as_str()).max_by_key(by_value)?;
    let largest = ready().map(|machine| machine.memory.as_str()).max_by_key(by_value)?;
    let gpus = ready().map(|machine| machine.gpus).max()?;
    let gpus = match gpus {
        0 => "no GPUs".to_owned(),
        count => plural(usize::try_from(count).unwrap_or(usize::MAX), "GPU"),
    };
    Some(format!("{cpus} CPUs, {} memory, {gpus}", format_memory(largest)))
}

#[cfg(test)]
mod tests {
    use task::wire::ClusterNode;

    use super::{format_memory, largest_capacity};

    fn machine(ready: bool, cpus: &str, memory: &str, gpus: u32) -> ClusterNode {
        ClusterNode {
            name: "m".to_owned(),
            ready,
            cpus: cpus.to_owned(),
            memory: memory.to_owned(),
            gpus,
        }
    }

    #[test]
    fn memory_is_rounded_down_to_what_fits() {
        for (written, read) in [
            ("24683556Ki", "23.5Gi"),
            ("16Gi", "16Gi"),
            ("17179869183", "15.9Gi"),
            ("500Mi", "500Mi"),
            ("1048575", "1048575"),
            ("lots", "lots"),
        ] {
            assert_eq!(format_memory(written), read, "{written}");
        }
    }

    #[test]
    fn the_most_is_of_machines_that_take_tasks() {
        let machines = [
            machine(true, "3920m", "16Gi", 0),
            machine(true, "2", "32Gi", 4),
            machine(false, "96", "1Ti", 8),
        ];
        assert_eq!(largest_capacity(&machines).unwrap(), "3920m CPUs, 32Gi memory, 4 GPUs");
        assert_eq!(
            largest_capacity(&machines[..1]).unwrap(),
            "3920m CPUs, 16Gi memory, no GPUs"
        );
        assert_eq!(largest_capacity(&machines[2..]), None);
    }
}
