//! The part of a node's script that copies from buckets and web servers.

use task::TaskDefinition;
use task::definition::{CopyMount, Target};

use super::quoting::{quote, quote_path};
use super::working_dir::WORKING_DIR;

/// Copies what is at the address `$1` to `$2`. The program has the variables of the task, which may be credentials.
///
/// The program says itself why it failed, unless it cannot be started.
const COPY: &str = r#"k8s_cli_copy() {
  local code
  /etc/k8s-cli-helper/k8s-cli-helper copy --report /dev/termination-log -- "$1" "$2"
  code=$?
  case $code in
    0) return ;;
    12[67]) echo "cannot copy the data of the task: the helper program cannot be started; see the log of the node" >>/dev/termination-log ;;
  esac
  exit 1
}
"#;

/// The lines that copy; empty if a task copies nothing. The node fails if they do.
pub(super) fn copy(definition: &TaskDefinition) -> String {
    if definition.copies.is_empty() {
        return String::new();
    }
    let calls = definition.copies.iter().map(|CopyMount { target, source }| {
        let path = match target {
            Target::WorkingDir(below) if below.is_empty() => WORKING_DIR.to_owned(),
            Target::WorkingDir(below) => format!("{WORKING_DIR}/{}", quote(below)),
            Target::Elsewhere(path) => quote_path(path),
        };
        format!("k8s_cli_copy {} {path}\n", quote(source.as_str()))
    });
    format!("{COPY}{}unset -f k8s_cli_copy\n", calls.collect::<String>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use task::TaskDefinition;

    use super::{COPY, copy};

    #[test]
    fn each_address_is_copied_to_its_place() {
        let body = json!({"run": "true", "file_mounts": {
            "/data/it's": "s3://data/a$b", "~/x y": "gs://data", "sub/z": "https://h/z?a=1&b='2'", ".": "s3://code",
        }});
        let lines = copy(&TaskDefinition::parse(&body, 1).unwrap());
        let calls: Vec<&str> = lines.strip_prefix(COPY).unwrap().lines().collect();
        assert_eq!(
            calls,
            [
                r#"k8s_cli_copy 's3://data/a$b' "/data/it's""#,
                r#"k8s_cli_copy 'gs://data' ~/"x y""#,
                r"k8s_cli_copy 'https://h/z?a=1&b='\''2'\''' /sky_workdir/'sub/z'",
                "k8s_cli_copy 's3://code' /sky_workdir",
                "unset -f k8s_cli_copy",
            ]
        );
        assert_eq!(copy(&TaskDefinition::parse(&json!({"run": "true"}), 1).unwrap()), "");
    }
}
