//! Whether entries are a tree that can be written without harm: sorted, each in a folder, and no link leads out of it.

use std::collections::HashMap;

use crate::entry::LinkTarget;
use crate::entry_path::EntryPath;
use crate::error::Error;

/// Links that lead through more links than this are refused; Linux would not follow them either.
const MAX_LINKS: usize = 40;

/// What matters of an entry here.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape<'a> {
    Directory,
    File,
    Link(&'a LinkTarget),
}

/// Checks entries in the order in which they are.
///
/// # Errors
///
/// For the first entry that is out of order, listed twice, not in a folder that is listed, or a link out of the tree.
pub(crate) fn check<'a>(entries: impl Iterator<Item = (&'a EntryPath, Shape<'a>)> + Clone) -> Result<(), Error> {
    let mut folders: Vec<&EntryPath> = Vec::new();
    let mut last: Option<&EntryPath> = None;
    let mut links = false;
    for (path, shape) in entries.clone() {
        if last.is_some_and(|last| last == path) {
            return Err(Error::Duplicate { path: path.clone() });
        }
        if last.is_some_and(|last| last > path) {
            return Err(Error::Unsorted { path: path.clone() });
        }
        last = Some(path);
        // The folders on the way to an entry are directly before it or above what is, because entries are sorted.
        while folders.last().is_some_and(|folder| !is_in(path, folder)) {
            folders.pop();
        }
        if path.parent() != folders.last().map(|folder| folder.as_bytes()) {
            return Err(Error::NotInFolder { path: path.clone() });
        }
        match shape {
            Shape::Directory => folders.push(path),
            Shape::File => {}
            Shape::Link(_) => links = true,
        }
    }
    if links { Nodes::new(entries).check() } else { Ok(()) }
}

/// The links of a sorted tree that [`check`] refuses.
pub(crate) fn refused_links<'a>(entries: impl Iterator<Item = (&'a EntryPath, Shape<'a>)>) -> Vec<EntryPath> {
    let faults = Nodes::new(entries).faults();
    faults.map(|(path, _, _)| path.clone()).collect()
}

fn is_in(path: &EntryPath, folder: &EntryPath) -> bool {
    let rest = path.as_bytes().strip_prefix(folder.as_bytes());
    rest.is_some_and(|rest| rest.starts_with(b"/"))
}

/// The root is node 0, and each entry a node after it.
const ROOT: usize = 0;

/// A place that a link leads to: a node, and how many folders below it that are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    node: usize,
    missing: usize,
}

/// The entries as nodes, to follow links in them.
struct Nodes<'a> {
    nodes: Vec<Node<'a>>,
    children: HashMap<(usize, &'a [u8]), usize>,
}

struct Node<'a> {
    parent: usize,
    depth: usize,
    link: Option<(&'a EntryPath, &'a LinkTarget)>,
    /// Where the link leads to, once that is known: each link is followed once, however many lead through it.
    resolved: Option<(Place, usize)>,
}

impl<'a> Nodes<'a> {
    fn new(entries: impl Iterator<Item = (&'a EntryPath, Shape<'a>)>) -> Self {
        let root = Node {
            parent: ROOT,
            depth: 0,
            link: None,
            resolved: None,
        };
        let mut nodes = Self {
            nodes: vec![root],
            children: HashMap::new(),
        };
        let mut folders: Vec<(usize, &EntryPath)> = Vec::new();
        for (path, shape) in entries {
            while folders.last().is_some_and(|(_, folder)| !is_in(path, folder)) {
                folders.pop();
            }
            let parent = folders.last().map_or(ROOT, |(node, _)| *node);
            let node = nodes.nodes.len();
            nodes.children.insert((parent, path.name()), node);
            nodes.nodes.push(Node {
                parent,
                depth: folders.len() + 1,
                link: match shape {
                    Shape::Link(target) => Some((path, target)),
                    Shape::Directory | Shape::File => None,
                },
                resolved: None,
            });
            if matches!(shape, Shape::Directory) {
                folders.push((node, path));
            }
        }
        nodes
    }

    fn check(self) -> Result<(), Error> {
        match self.faults().next() {
            Some((path, target, reason)) => Err(Error::Link {
                path: path.clone(),
                target: target.to_string(),
                reason,
            }),
            None => Ok(()),
        }
    }

    /// The links that are refused, and why.
    fn faults(mut self) -> impl Iterator<Item = (&'a EntryPath, &'a LinkTarget, &'static str)> {
        (0..self.nodes.len()).filter_map(move |node| {
            let (path, target) = self.nodes[node].link?;
            let reason = if leaves_by_name(target, self.nodes[node].depth - 1) {
                "it leads out of the folder"
            } else {
                self.resolve(node, 0).err()?
            };
            Some((path, target, reason))
        })
    }

    /// The place that a link leads to, and through how many links, itself included. `depth` links are being followed.
    fn resolve(&mut self, link: usize, depth: usize) -> Result<(Place, usize), &'static str> {
        const TOO_MANY: &str = "it leads through more than 40 links, or in a circle";
        if depth >= MAX_LINKS {
            return Err(TOO_MANY);
        }
        let Some((_, target)) = self.nodes[link].link else {
            return Ok((Place { node: link, missing: 0 }, 0));
        };
        if let Some(resolved) = self.nodes[link].resolved {
            return Ok(resolved);
        }
        let mut place = Place {
            node: self.nodes[link].parent,
            missing: 0,
        };
        let mut followed = 1;
        for name in names(target) {
            place = self.step(place, name).ok_or("it leads out of the folder")?;
            if place.missing == 0 && self.nodes[place.node].link.is_some() {
                let (next, more) = self.resolve(place.node, depth + 1)?;
                place = next;
                followed += more;
            }
            if followed > MAX_LINKS {
                return Err(TOO_MANY);
            }
        }
        self.nodes[link].resolved = Some((place, followed));
        Ok((place, followed))
    }

    /// The place with this name in a place, or `None` if that is out of the tree.
    fn step(&self, Place { node, missing }: Place, name: &[u8]) -> Option<Place> {
        Some(match (name, missing) {
            (b"..", 0) if node == ROOT => return None,
            (b"..", 0) => Place {
                node: self.nodes[node].parent,
                missing: 0,
            },
            (b"..", _) => Place {
                node,
                missing: missing - 1,
            },
            (_, 0) => match self.children.get(&(node, name)) {
                Some(child) => Place {
                    node: *child,
                    missing: 0,
                },
                None => Place { node, missing: 1 },
            },
            _ => Place {
                node,
                missing: missing + 1,
            },
        })
    }
}

/// The names of a target that are steps. Those of an absolute one are not asked for.
fn names(target: &LinkTarget) -> impl Iterator<Item = &[u8]> {
    let names = target.as_bytes().split(|byte| *byte == b'/');
    names.filter(|name| !matches!(*name, b"" | b"."))
}

/// Whether a target is absolute, or leaves the tree when its names are read without following links. Programs that
/// clean paths read them so.
fn leaves_by_name(target: &LinkTarget, mut depth: usize) -> bool {
    target.as_bytes().starts_with(b"/")
        || names(target).any(|name| match (name, depth) {
            (b"..", 0) => true,
            (b"..", _) => {
                depth -= 1;
                false
            }
            _ => {
                depth += 1;
                false
            }
        })
}

#[cfg(test)]
mod tests {
    use super::{EntryPath, Error, LinkTarget, Shape, check};

    /// Entries as `folder/`, `file`, or `link -> target`.
    fn result(entries: &[&str]) -> Result<(), Error> {
        let entries: Vec<_> = entries
            .iter()
            .map(|entry| match (entry.split_once(" -> "), entry.strip_suffix('/')) {
                (Some((path, target)), _) => (EntryPath::new(path).unwrap(), Some(LinkTarget::new(target)), false),
                (None, Some(path)) => (EntryPath::new(path).unwrap(), None, true),
                (None, None) => (EntryPath::new(*entry).unwrap(), None, false),
            })
            .collect();
        check(entries.iter().map(|(path, link, folder)| match link {
            Some(target) => (path, Shape::Link(target.as_ref().unwrap())),
            None if *folder => (path, Shape::Directory),
            None => (path, Shape::File),
        }))
    }

    #[track_caller]
    fn refused(entries: &[&str], path: &str) {
        let error = result(entries).unwrap_err().to_string();
        assert!(error.contains(&format!("`{path}`")), "{error}");
    }

    #[test]
    fn an_entry_is_in_a_folder_that_is_listed() {
        result(&["a/", "a/b/", "a/b/c", "a/d", "e/", "f"]).unwrap();
        result(&[]).unwrap();
        refused(&["a/b"], "a/b");
        refused(&["a/", "a/b/c"], "a/b/c");
        refused(&["a", "a/b"], "a/b");
        refused(&["a -> .", "a/b"], "a/b");
        refused(&["a/", "a/b -> .", "a/b/c/", "a/b/c/d"], "a/b/c");
        refused(&["a/", "ab/c"], "ab/c");
    }

    #[test]
    fn entries_are_sorted_and_listed_once() {
        refused(&["b", "a"], "a");
        refused(&["a", "a"], "a");
        refused(&["a/", "a-b", "a/c"], "a/c");
        refused(&["a/", "a/b", "a"], "a");
    }

    #[test]
    fn a_link_stays_in_the_tree() {
        for target in ["x", "./x", "a/../x", "missing/../../l/m", "a//b/", "."] {
            let link = format!("l/k -> {target}");
            result(&["a/", "a/b", "l/", &link]).unwrap();
        }
        for target in [
            "/",
            "/etc/passwd",
            "../..",
            "../../x",
            "a/../../../x",
            "missing/../../../l/m",
        ] {
            let link = format!("l/k -> {target}");
            refused(&["a/", "a/b", "l/", &link], "l/k");
        }
        refused(&["a -> .."], "a");
        refused(&["a -> ../b"], "a");
    }

    #[test]
    fn a_link_does_not_leave_the_tree_through_another() {
        // `deep/down` is the root, so `deep/down/..` is outside, though its name is not.
        refused(&["deep/", "deep/down -> ..", "x -> deep/down/.."], "x");
        refused(&["deep/", "deep/down -> ..", "deep/x -> down/../.."], "deep/x");
        refused(&["a -> b", "b -> c", "c -> d/..", "d -> ."], "a");
        // Through `a/l` this is `a`, but a program that cleans paths takes it for the folder above the root.
        refused(&["a/", "a/b/", "a/b/c/", "a/l -> b/c", "x -> a/l/../../.."], "x");
        result(&["a/", "a/b/", "a/b/c/", "a/l -> b/c", "x -> a/l/../.."]).unwrap();
    }

    #[test]
    fn circles_and_long_chains_of_links_are_refused() {
        refused(&["a -> a"], "a");
        refused(&["a -> b", "b -> a"], "a");
        let chain =
            |length: usize| -> Vec<String> { (0..length).map(|at| format!("l{at:05} -> l{:05}", at + 1)).collect() };
        let lines = chain(39);
        result(&lines.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        let lines = chain(10_000);
        refused(&lines.iter().map(String::as_str).collect::<Vec<_>>(), "l00000");
        // Each link leads through the one before twice.
        let mut lines = vec!["l00000 -> .".to_owned()];
        lines.extend((1..39).map(|at| format!("l{at:05} -> l{:05}/l{:05}", at - 1, at - 1)));
        refused(&lines.iter().map(String::as_str).collect::<Vec<_>>(), "l00005");
    }

    #[test]
    fn many_links_with_long_targets_are_checked_quickly() {
        let target = "a/".repeat(2000);
        let lines: Vec<_> = (0..5000)
            .map(|at| format!("l{at:05} -> l{:05}/{target}", at / 2))
            .collect();
        let mut entries = vec!["a/"];
        entries.extend(lines.iter().map(String::as_str));
        let start = std::time::Instant::now();
        drop(result(&entries));
        assert!(start.elapsed().as_secs() < 10);
    }
}
