//! Lists tasks and volumes, and finds them by ID, ID prefix, or name.

use std::collections::HashMap;

use serde_json::value::RawValue;
use task::UserName;

use super::resource::Resource;
use crate::args::Format;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::output::{ListView, WithRaw, age, print_items, print_message};

/// Limit for the candidates in an error message.
const MAX_CANDIDATES: usize = 5;

/// How much of an ID a command that deletes requires: a typing mistake must not delete anything.
const MIN_PREFIX_TO_DELETE: usize = 4;

/// Length of an ID.
const ID_LENGTH: usize = 8;

/// All tasks or volumes of the user, or of all users.
pub(crate) async fn list<T: Resource>(client: &Client, all_users: bool) -> Result<Vec<WithRaw<T>>> {
    let query = if all_users { "?all_users=true" } else { "" };
    list_at(client, &format!("{}{query}", T::PATH)).await
}

/// The list that the server has at a path.
pub(super) async fn list_at<T: Resource>(client: &Client, path: &str) -> Result<Vec<WithRaw<T>>> {
    let body = client.get_bytes(path).await?;
    let url = client.url().to_string();
    let mut lists: HashMap<String, Vec<Box<RawValue>>> = client.decode_unescaped(&body)?;
    let raw = lists.remove(T::LIST).unwrap_or_default();
    raw.into_iter().map(|raw| WithRaw::decode(raw, &url)).collect()
}

/// One task or volume by its ID.
pub(crate) async fn get<T: Resource>(client: &Client, id: &str) -> Result<WithRaw<T>> {
    let body = client.get_bytes(&format!("{}/{}", T::PATH, percent_encode(id))).await?;
    let raw = client.decode_unescaped(&body)?;
    WithRaw::decode(raw, &client.url().to_string())
}

/// What to do with a reference that matches several tasks or volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ambiguity {
    /// For commands that only read: take the newest one of this name, and say so.
    TakesNewest,
    /// Report the candidates.
    NeedsId,
    /// For commands that delete: the same, and don't accept a short prefix of an ID either.
    IsAnError,
}

/// The user's last task or volume.
///
/// # Errors
/// [`Error::NotFound`] if there is none.
pub(crate) async fn find_last<T: Resource>(client: &Client) -> Result<WithRaw<T>> {
    let kind = T::KIND;
    let mut all = list::<T>(client, false).await?;
    let last = all
        .pop()
        .ok_or_else(|| Error::NotFound(format!("you have no {kind}s").into()))?;
    print_message(&format!(
        "showing your last {kind}, `{}` ({})",
        last.item.name(),
        last.item.id()
    ));
    Ok(last)
}

/// One task or volume by its ID, ID prefix, or name.
///
/// # Errors
/// [`Error::NotFound`] if nothing matches, [`Error::Usage`] if the reference is ambiguous.
async fn find<T: Resource>(client: &Client, reference: &str, ambiguity: Ambiguity) -> Result<WithRaw<T>> {
    // Try the ID first: it is the most common case, and one task is a much smaller response than the list.
    if is_id(reference) {
        match get(client, reference).await {
            Err(Error::NotFound(_)) => {}
            found => return found,
        }
    }
    find_in(list(client, false).await?, reference, ambiguity)
}

/// Several tasks or volumes in the given order, without duplicates.
pub(crate) async fn find_all<T: Resource>(
    client: &Client,
    references: &[String],
    ignore_not_found: bool,
    ambiguity: Ambiguity,
) -> Result<Vec<WithRaw<T>>> {
    let find = async |reference: &str| find::<T>(client, reference, ambiguity).await;
    find_each(references, ignore_not_found, find, |resource| resource.item.id()).await
}

/// What `find` returns for each reference, without those whose `id` is there already.
pub(super) async fn find_each<F>(
    references: &[String],
    ignore_not_found: bool,
    find: impl AsyncFn(&str) -> Result<F>,
    id: impl Fn(&F) -> &str,
) -> Result<Vec<F>> {
    let mut found: Vec<F> = Vec::new();
    for reference in references {
        match find(reference).await {
            Ok(one) if found.iter().any(|known| id(known) == id(&one)) => {}
            Ok(one) => found.push(one),
            Err(Error::NotFound(_)) if ignore_not_found => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// How much of an ID is enough.
pub(super) fn min_prefix(ambiguity: Ambiguity) -> usize {
    match ambiguity {
        Ambiguity::TakesNewest | Ambiguity::NeedsId => 1,
        Ambiguity::IsAnError => MIN_PREFIX_TO_DELETE,
    }
}

/// Matches by ID, then by name, then by ID prefix.
pub(super) fn find_in<T: Resource>(
    mut resources: Vec<WithRaw<T>>,
    reference: &str,
    ambiguity: Ambiguity,
) -> Result<WithRaw<T>> {
    let kind = T::KIND;
    let min_prefix = min_prefix(ambiguity);
    let matchers: [&dyn Fn(&T) -> bool; 3] = [
        &|resource| resource.id() == reference,
        &|resource| resource.name() == reference,
        &|resource| reference.len() >= min_prefix && resource.id().starts_with(reference),
    ];
    for matches in matchers {
        let found: Vec<usize> = (0..resources.len())
            .filter(|index| matches(&resources[*index].item))
            .collect();
        match found.as_slice() {
            [] => {}
            [index] => return Ok(resources.swap_remove(*index)),
            // The server lists the oldest first.
            [.., newest] if ambiguity == Ambiguity::TakesNewest && resources[*newest].item.name() == reference => {
                let newest = resources.swap_remove(*newest);
                let id = newest.item.id();
                print_message(&format!(
                    "note: `{reference}` is the name of {} {kind}s; using the newest, {id}",
                    found.len()
                ));
                return Ok(newest);
            }
            several => {
                let candidates = several.iter().rev().take(MAX_CANDIDATES).map(|index| {
                    let resource = &resources[*index].item;
                    format!("{} ({} ago)", resource.id(), age(resource.created_at()))
                });
                let candidates: Vec<String> = candidates.collect();
                return Err(Error::Usage(format!(
                    "`{reference}` matches {} {kind}s; specify an ID: {}",
                    several.len(),
                    candidates.join(", ")
                )));
            }
        }
    }
    Err(Error::NotFound(not_found_message(&resources, reference).into()))
}

fn not_found_message<T: Resource>(resources: &[WithRaw<T>], reference: &str) -> String {
    let kind = T::KIND;
    let names = resources
        .iter()
        .flat_map(|resource| [resource.item.name(), resource.item.id()]);
    let nearest = names
        .map(|name| (strsim::jaro_winkler(name, reference), name))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|left, right| left.0.total_cmp(&right.0));
    match nearest {
        Some((_, name)) => format!("{kind} `{reference}` not found; did you mean `{name}`?"),
        None => format!(
            "{kind} `{reference}` not found; list yours with `k8s-cli {} list`",
            T::COMMAND
        ),
    }
}

/// Prints a list, or a message instead of a table without rows.
pub(crate) fn print_list<T: Resource>(
    items: &[WithRaw<T>],
    view: &ListView,
    user: &UserName,
    filter: &str,
) -> Result<()> {
    if !items.is_empty() || !matches!(view.format, Format::Table | Format::Wide) {
        return print_items(items, view);
    }
    let of = if view.all_users {
        String::new()
    } else {
        format!(" for user `{user}`")
    };
    print_message(&format!("no {}s found{of}{filter}", T::KIND));
    Ok(())
}

pub(super) fn is_id(text: &str) -> bool {
    text.len() == ID_LENGTH
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// Escapes text for use as one segment of a URL path or as a query value.
pub(crate) fn percent_encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use task::wire::TaskStatus;

    use super::{Ambiguity, find_in};
    use crate::error::Error;
    use crate::output::WithRaw;

    fn tasks(tasks: &[(&str, &str)]) -> Vec<WithRaw<TaskStatus>> {
        let task = |(id, name): &(&str, &str)| {
            let value = json!({
                "task_id": id, "name": name, "status": "running", "username": "alice",
                "created_at": "2026-11-24T10:00:00Z", "updated_at": "2026-11-24T10:00:00Z",
                "metadata": {"job_name": "j", "namespace": "default", "num_nodes": 1, "node_jobs": ["j"],
                    "succeeded_nodes": 0, "failed_nodes": 0, "running_nodes": 1, "pending_nodes": 0},
            });
            WithRaw::decode(serde_json::value::to_raw_value(&value).unwrap(), "http://test").unwrap()
        };
        tasks.iter().map(task).collect()
    }

    #[test]
    fn a_task_is_found_by_identifier_name_or_beginning() {
        let all = [("abcd1234", "train"), ("abzz1234", "eval"), ("train000", "other")];
        let found =
            |reference: &str| find_in(tasks(&all), reference, Ambiguity::TakesNewest).map(|task| task.item.task_id);
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
    fn what_only_reads_takes_the_newest_of_a_name() {
        let all = [("aaaa1111", "train"), ("bbbb2222", "train"), ("cccc3333", "other")];
        let found =
            |reference: &str, ambiguity| find_in(tasks(&all), reference, ambiguity).map(|task| task.item.task_id);
        assert_eq!(found("train", Ambiguity::TakesNewest).unwrap(), "bbbb2222");
        assert!(matches!(found("train", Ambiguity::IsAnError), Err(Error::Usage(_))));
    }

    #[test]
    fn what_deletes_needs_four_characters_of_an_id() {
        let all = [("abcd1234", "train")];
        let found = |reference: &str| find_in(tasks(&all), reference, Ambiguity::IsAnError);
        assert!(found("abcd").is_ok() && found("train").is_ok());
        assert!(matches!(found("abc"), Err(Error::NotFound(_))));
        assert!(find_in(tasks(&all), "a", Ambiguity::TakesNewest).is_ok());
    }

    #[test]
    fn the_nearest_name_is_offered() {
        let Err(error) = find_in(tasks(&[("abcd1234", "train")]), "trian", Ambiguity::IsAnError) else {
            panic!("found")
        };
        assert_eq!(error.to_string(), "task `trian` not found; did you mean `train`?");
    }
}
