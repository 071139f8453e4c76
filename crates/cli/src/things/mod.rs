//! Lists tasks and volumes, and finds them by ID, ID prefix, or name.

mod task;
mod volume;

use std::collections::HashMap;

use ::task::UserName;
use serde_json::value::RawValue;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::output::{Item, Kept, age, say};

/// Limit for the candidates in an error message.
const MAX_CANDIDATES: usize = 5;

/// Length of an ID.
const ID_LENGTH: usize = 8;

/// A task or a volume.
pub trait Thing: Item {
    /// `task` or `volume`, for messages.
    const KIND: &'static str;
    /// The URL path of the collection.
    const PATH: &'static str;
    fn created_at(&self) -> &str;
}

/// All tasks or volumes of the user, or of all users.
pub async fn list<T: Thing>(client: &Client, all_users: bool) -> Result<Vec<Kept<T>>> {
    let query = if all_users { "?all_users=true" } else { "" };
    let answer = client.get_bytes(&format!("{}{query}", T::PATH)).await?;
    let url = client.url().to_string();
    let mut lists: HashMap<String, Vec<Box<RawValue>>> = client.decode_as_sent(&answer)?;
    let raw = lists.remove(T::LIST).unwrap_or_default();
    raw.into_iter().map(|raw| Kept::read(raw, &url)).collect()
}

/// One task or volume by its ID.
pub async fn get<T: Thing>(client: &Client, id: &str) -> Result<Kept<T>> {
    let answer = client.get_bytes(&format!("{}/{}", T::PATH, escaped(id))).await?;
    let raw = client.decode_as_sent(&answer)?;
    Kept::read(raw, &client.url().to_string())
}

/// One task or volume by its ID, ID prefix, or name.
///
/// # Errors
/// [`Error::NotFound`] if nothing matches, [`Error::Usage`] if the reference is ambiguous.
pub async fn find<T: Thing>(client: &Client, reference: &str) -> Result<Kept<T>> {
    // Try the ID first: it is the most common case, and one task is a much smaller response than the list.
    if is_id(reference) {
        match get(client, reference).await {
            Err(Error::NotFound(_)) => {}
            found => return found,
        }
    }
    choose(list(client, false).await?, reference)
}

/// Several tasks or volumes in the given order, without duplicates.
pub async fn find_all<T: Thing>(
    client: &Client,
    references: &[String],
    ignore_not_found: bool,
) -> Result<Vec<Kept<T>>> {
    let mut found: Vec<Kept<T>> = Vec::new();
    for reference in references {
        match find::<T>(client, reference).await {
            Ok(kept) if found.iter().any(|known| known.item.id() == kept.item.id()) => {}
            Ok(kept) => found.push(kept),
            Err(Error::NotFound(_)) if ignore_not_found => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Matches by ID, then by name, then by ID prefix.
fn choose<T: Thing>(mut things: Vec<Kept<T>>, reference: &str) -> Result<Kept<T>> {
    let kind = T::KIND;
    let fits: [&dyn Fn(&T) -> bool; 3] = [
        &|thing| thing.id() == reference,
        &|thing| thing.name() == reference,
        &|thing| !reference.is_empty() && thing.id().starts_with(reference),
    ];
    for fit in fits {
        let found: Vec<usize> = (0..things.len()).filter(|index| fit(&things[*index].item)).collect();
        match found.as_slice() {
            [] => {}
            [index] => return Ok(things.swap_remove(*index)),
            several => {
                let shown = several.iter().rev().take(MAX_CANDIDATES).map(|index| {
                    let thing = &things[*index].item;
                    format!("{} ({} ago)", thing.id(), age(thing.created_at()))
                });
                let shown: Vec<String> = shown.collect();
                return Err(Error::Usage(format!(
                    "`{reference}` matches {} {kind}s; specify an ID: {}",
                    several.len(),
                    shown.join(", ")
                )));
            }
        }
    }
    Err(Error::NotFound(not_found(&things, reference).into()))
}

fn not_found<T: Thing>(things: &[Kept<T>], reference: &str) -> String {
    let kind = T::KIND;
    let names = things.iter().flat_map(|kept| [kept.item.name(), kept.item.id()]);
    let nearest = names
        .map(|name| (strsim::jaro_winkler(name, reference), name))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|left, right| left.0.total_cmp(&right.0));
    match nearest {
        Some((_, name)) => format!("{kind} `{reference}` not found; did you mean `{name}`?"),
        None => format!(
            "{kind} `{reference}` not found; list yours with `k8s-cli {} list`",
            list_command::<T>()
        ),
    }
}

/// Reports an empty list.
pub fn say_none<T: Thing>(all_users: bool, user: &UserName, which: &str) {
    let of = if all_users {
        String::new()
    } else {
        format!(" for user `{user}`")
    };
    say(&format!("no {}s found{of}{which}", T::KIND));
}

fn list_command<T: Thing>() -> &'static str {
    if T::KIND == "task" { "jobs" } else { "volumes" }
}

fn is_id(text: &str) -> bool {
    text.len() == ID_LENGTH
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// Escapes text for use as one segment of a URL path or as a query value.
pub fn escaped(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use ::task::wire::TaskStatus;
    use serde_json::json;

    use super::choose;
    use crate::error::Error;
    use crate::output::Kept;

    fn tasks(tasks: &[(&str, &str)]) -> Vec<Kept<TaskStatus>> {
        let task = |(id, name): &(&str, &str)| {
            let value = json!({
                "task_id": id, "name": name, "status": "running", "username": "alice",
                "created_at": "2026-11-24T10:00:00Z", "updated_at": "2026-11-24T10:00:00Z",
                "metadata": {"job_name": "j", "namespace": "default", "num_nodes": 1, "node_jobs": ["j"],
                    "succeeded_nodes": 0, "failed_nodes": 0, "running_nodes": 1, "pending_nodes": 0},
            });
            Kept::read(serde_json::value::to_raw_value(&value).unwrap(), "http://test").unwrap()
        };
        tasks.iter().map(task).collect()
    }

    #[test]
    fn a_task_is_found_by_identifier_name_or_beginning() {
        let all = [("abcd1234", "train"), ("abzz1234", "eval"), ("train000", "other")];
        let found = |reference: &str| choose(tasks(&all), reference).map(|kept| kept.item.task_id);
        assert_eq!(found("abzz1234").unwrap(), "abzz1234");
        assert_eq!(found("abc").unwrap(), "abcd1234");
        assert_eq!(
            found("train").unwrap(),
            "abcd1234",
            "a name takes precedence over an ID prefix"
        );
        assert!(matches!(found("ab"), Err(Error::Usage(_))), "two IDs match");
        assert!(matches!(found(""), Err(Error::NotFound(_))));
    }

    #[test]
    fn the_nearest_name_is_offered() {
        let Err(error) = choose(tasks(&[("abcd1234", "train")]), "trian") else {
            panic!("found")
        };
        assert_eq!(error.to_string(), "task `trian` not found; did you mean `train`?");
    }
}
