//! What machines give, in words.

use quantity::{NANO, nanos};
use task::status::Machine;

use super::plural;

const GIBIBYTE: i128 = 1 << 30;

/// A number of bytes that Kubernetes wrote, such as `24683556Ki`, as a person reads it: `23.5Gi`.
///
/// Rounded down, so that a task that asks for as much has room. What is no quantity stays as it is.
pub fn memory(written: &str) -> String {
    match nanos(written) {
        Some(nanos) if nanos / NANO >= GIBIBYTE => {
            let tenths = nanos / NANO * 10 / GIBIBYTE;
            match tenths % 10 {
                0 => format!("{}Gi", tenths / 10),
                tenth => format!("{}.{tenth}Gi", tenths / 10),
            }
        }
        Some(nanos) if nanos / NANO >= 1 << 20 => format!("{}Mi", (nanos / NANO) >> 20),
        _ => written.to_owned(),
    }
}

/// The most that any machine which takes tasks gives to one, each taken by itself; `None` when none takes tasks.
pub fn most(machines: &[Machine]) -> Option<String> {
    let ready = || machines.iter().filter(|machine| machine.ready);
    let by_amount = |written: &&str| nanos(written).unwrap_or(0);
    let cpus = ready().map(|machine| machine.cpus.as_str()).max_by_key(by_amount)?;
    let largest = ready().map(|machine| machine.memory.as_str()).max_by_key(by_amount)?;
    let gpus = ready().map(|machine| machine.gpus).max()?;
    let gpus = match gpus {
        0 => "no GPU".to_owned(),
        count => plural(usize::try_from(count).unwrap_or(usize::MAX), "GPU"),
    };
    Some(format!("{cpus} cpus, {} memory, {gpus}", memory(largest)))
}

#[cfg(test)]
mod tests {
    use task::status::Machine;

    use super::{memory, most};

    fn machine(ready: bool, cpus: &str, memory: &str, gpus: u32) -> Machine {
        Machine {
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
            assert_eq!(memory(written), read, "{written}");
        }
    }

    #[test]
    fn the_most_is_of_machines_that_take_tasks() {
        let machines = [
            machine(true, "3920m", "16Gi", 0),
            machine(true, "2", "32Gi", 4),
            machine(false, "96", "1Ti", 8),
        ];
        assert_eq!(most(&machines).unwrap(), "3920m cpus, 32Gi memory, 4 GPUs");
        assert_eq!(most(&machines[..1]).unwrap(), "3920m cpus, 16Gi memory, no GPU");
        assert_eq!(most(&machines[2..]), None);
    }
}
