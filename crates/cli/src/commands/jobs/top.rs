//! `k8s-cli jobs top`: a live view of tasks with the last log line of each node.

use std::collections::HashMap;
use std::io::{IsTerminal, Write, stdin, stdout};
use std::time::Duration;

use crossterm::event::{Event, KeyCode, KeyModifiers};
use crossterm::{cursor, event, execute, terminal};
use futures::future::join_all;
use task::TaskState;
use task::wire::TaskStatus;
use tokio::time::timeout;

use super::outcome::took;
use crate::args::Top;
use crate::context::Context;
use crate::error::Result;
use crate::output::{Cell, REFRESH, Table, age, fixed, flexible, plural, print, ran_for, status_cell};
use crate::things::{find_all, list};

/// Timeout for fetching last log lines. The view must stay responsive; lines that arrive late are left out.
const LINE_PATIENCE: Duration = Duration::from_millis(800);

/// Limit for the length of a log line in the view.
const MAX_LINE_BYTES: usize = 400;

/// Height of the view without a terminal.
const DEFAULT_HEIGHT: usize = 50;

pub async fn run(context: &Context, args: Top) -> Result<()> {
    // A task that is missing now was mistyped, so fail. One that disappears later was stopped, and the view just drops
    // it.
    find_all::<TaskStatus>(&context.client, &args.tasks, false).await?;
    if context.terminal.width.is_none() || !stdin().is_terminal() {
        return print(&view(context, &args, DEFAULT_HEIGHT).await?);
    }
    let screen = Screen::open()?;
    let (keys, mut quit) = tokio::sync::mpsc::channel(1);
    // A thread of its own, because reading keys blocks. It is not joined: the process ends right after the view.
    std::thread::spawn(move || until_quit(&keys));
    let ended = loop {
        let (width, height) = terminal::size()?;
        let mut here = Context {
            terminal: context.terminal,
            client: context.client.clone(),
            user: context.user.clone(),
        };
        here.terminal.width = Some(usize::from(width));
        tokio::select! {
            view = view(&here, &args, usize::from(height)) => match view {
                Ok(text) => screen.draw(&text.replacen('\n', "   (press q to quit)\n", 1), height)?,
                Err(error) => break Err(error),
            },
            _ = quit.recv() => break Ok(()),
        }
        tokio::select! {
            () = tokio::time::sleep(REFRESH) => {}
            _ = quit.recv() => break Ok(()),
        }
    };
    drop(screen);
    ended
}

/// The alternate screen in raw mode. Dropping it restores the terminal, also after an error.
struct Screen;

impl Screen {
    fn open() -> Result<Self> {
        terminal::enable_raw_mode()?;
        execute!(stdout(), terminal::EnterAlternateScreen, cursor::Hide)?;
        Ok(Self)
    }

    /// Overwrites the screen line by line, because clearing it first would flicker.
    fn draw(&self, text: &str, height: u16) -> Result<()> {
        let mut out = stdout().lock();
        execute!(out, cursor::MoveTo(0, 0))?;
        for line in text.lines().take(usize::from(height).saturating_sub(1)) {
            write!(out, "{line}")?;
            execute!(out, terminal::Clear(terminal::ClearType::UntilNewLine))?;
            write!(out, "\r\n")?;
        }
        execute!(out, terminal::Clear(terminal::ClearType::FromCursorDown))?;
        out.flush()?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = execute!(stdout(), terminal::LeaveAlternateScreen, cursor::Show);
        let _ = terminal::disable_raw_mode();
    }
}

/// Blocks until the user presses `q`, Esc, or Ctrl-C, which raw mode delivers as a key instead of SIGINT.
fn until_quit(keys: &tokio::sync::mpsc::Sender<()>) {
    loop {
        match event::read() {
            Ok(Event::Key(key)) => {
                let control_c = key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
                if control_c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                    break;
                }
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    let _ = keys.blocking_send(());
}

async fn view(context: &Context, args: &Top, height: usize) -> Result<String> {
    let mut tasks: Vec<TaskStatus> = if args.tasks.is_empty() {
        list(&context.client, args.all_users)
            .await?
            .into_iter()
            .map(|kept| kept.item)
            .collect()
    } else {
        let found = find_all(&context.client, &args.tasks, true).await?;
        found.into_iter().map(|kept| kept.item).collect()
    };
    let counts = |state| tasks.iter().filter(|task| task.status == state).count();
    let title = format!(
        "{}: {} pending, {} running, {} completed, {} failed\n\n",
        plural(tasks.len(), "task"),
        counts(TaskState::Pending),
        counts(TaskState::Running),
        counts(TaskState::Completed),
        counts(TaskState::Failed)
    );
    // Active tasks first, then by latest change.
    tasks.sort_by_key(|task| (task.status.is_final(), std::cmp::Reverse(task.updated_at.clone())));
    let shown = fitting(&tasks, height.saturating_sub(3));
    let lines = join_all(shown.iter().map(|task| last_lines(context, task))).await;
    let mut table = Table::new(&[
        fixed("ID"),
        flexible("NAME"),
        fixed("STATUS"),
        fixed("NODE"),
        fixed("TIME"),
        flexible("LAST LINE"),
    ]);
    for (task, lines) in shown.iter().zip(lines) {
        add(&mut table, task, &lines);
    }
    Ok(title + &table.render(context.terminal, true))
}

/// The tasks that fit into `rows`, counting a line for each node. The first task is always shown.
fn fitting(tasks: &[TaskStatus], rows: usize) -> Vec<&TaskStatus> {
    let mut left = rows;
    let fits = |task: &&TaskStatus| {
        let needed = lines_of(task);
        let fits = needed <= left || left == rows;
        left = left.saturating_sub(needed);
        fits && needed > 0
    };
    tasks.iter().take_while(fits).collect()
}

fn lines_of(task: &TaskStatus) -> usize {
    match task.metadata.nodes.len() {
        0 | 1 => 1,
        nodes if task.status.is_final() => nodes.min(1),
        nodes => nodes + 1,
    }
}

fn add(table: &mut Table, task: &TaskStatus, lines: &HashMap<u32, String>) {
    let why = task.message.clone().or_else(|| task.reason.clone()).unwrap_or_default();
    let several = lines_of(task) > 1;
    let own = match (task.status, lines.get(&0)) {
        (TaskState::Pending | TaskState::Failed, _) => why,
        (_, Some(line)) if !several => line.clone(),
        _ => String::new(),
    };
    table.add(vec![
        Cell::from(task.task_id.as_str()),
        Cell::from(task.name.as_str()),
        status_cell(task.status),
        Cell::from(if task.metadata.num_nodes > 1 {
            format!("{} nodes", task.metadata.num_nodes)
        } else {
            String::new()
        }),
        Cell::from(took(task).unwrap_or_else(|| age(&task.created_at))),
        Cell::from(own),
    ]);
    if !several {
        return;
    }
    for node in &task.metadata.nodes {
        table.add(vec![
            Cell::from(""),
            Cell::from(""),
            status_cell(node.status),
            Cell::from(node.rank.to_string()),
            Cell::from(ran_for(node)),
            Cell::from(
                lines
                    .get(&node.rank)
                    .or(node.message.as_ref())
                    .cloned()
                    .unwrap_or_default(),
            ),
        ]);
    }
}

/// The last log line of each node; empty if the server does not respond in time.
async fn last_lines(context: &Context, task: &TaskStatus) -> HashMap<u32, String> {
    if task.status == TaskState::Pending {
        return HashMap::new();
    }
    let path = format!("/tasks/{}/logs?follow=false&tail=1", task.task_id);
    let Ok(Ok(bytes)) = timeout(LINE_PATIENCE, context.client.get_bytes(&path)).await else {
        return HashMap::new();
    };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.lines()
        .filter_map(|line| of_node(line, task.metadata.num_nodes))
        .collect()
}

/// Splits a log line into rank and text. Progress bars overwrite their line, so only the text after the last `\r` is
/// kept.
fn of_node(line: &str, num_nodes: u32) -> Option<(u32, String)> {
    let (rank, text) = match num_nodes {
        1 => (0, line),
        _ => {
            let (rank, text) = line.strip_prefix("node-")?.split_once(" | ")?;
            // After the first attempt, the prefix is `node-1 attempt-2`.
            (rank.split(' ').next()?.parse().ok()?, text)
        }
    };
    let seen = text.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
    let plain = anstream::adapter::strip_str(seen).to_string();
    Some((rank, plain.chars().take(MAX_LINE_BYTES).collect()))
}

#[cfg(test)]
mod tests {
    use super::of_node;

    #[test]
    fn a_progress_bar_shows_what_it_showed_last() {
        assert_eq!(
            of_node("10%\r20%\r\x1b[1m30%\x1b[0m\r", 1).unwrap(),
            (0, "30%".to_owned())
        );
        assert_eq!(of_node("node-12 | a | b", 13).unwrap(), (12, "a | b".to_owned()));
        assert_eq!(of_node("nothing", 2), None);
    }
}
