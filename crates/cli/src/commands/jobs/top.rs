//! `k8s-cli jobs top`: a live view of tasks with the last log line of each node.

use std::collections::HashMap;
use std::io::{IsTerminal, Write, stdin, stdout};
use std::time::Duration;

use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use crossterm::{cursor, event, execute, terminal};
use futures::future::join_all;
use task::TaskState;
use task::wire::TaskStatus;
use tokio::time::timeout;

use super::outcome::task_duration;
use crate::args::TopArgs;
use crate::context::Context;
use crate::error::Result;
use crate::output::{Cell, REFRESH_INTERVAL, Table, age, fixed, flexible, node_duration, plural, print, status_cell};
use crate::resources::{Ambiguity, TaskWatch, find_tasks, list};

/// Timeout for fetching last log lines. The view must stay responsive; lines that arrive late are left out.
const LAST_LINE_TIMEOUT: Duration = Duration::from_millis(800);

/// The least time between two refreshes.
const MIN_REFRESH_INTERVAL: Duration = Duration::from_millis(200);

/// Limit for the length of a log line in the view.
const MAX_LINE_CHARACTERS: usize = 400;

/// How many tasks a page key scrolls.
const PAGE: isize = 10;

/// Height of the view without a terminal.
const DEFAULT_HEIGHT: usize = 50;

pub(crate) async fn run(context: &Context, args: TopArgs) -> Result<()> {
    // A task that is missing now was mistyped, so fail. One that disappears later was stopped, and the view just drops
    // it.
    let tasks = find_tasks(&context.client, &args.tasks, Ambiguity::TakesNewest).await?;
    let args = TopArgs {
        tasks: tasks.into_iter().map(|task| task.item.task_id).collect(),
        ..args
    };
    if context.terminal.width.is_none() || !stdin().is_terminal() {
        let tasks = list::<TaskStatus>(&context.client, args.all_users).await?;
        let tasks = tasks.into_iter().map(|task| task.item).collect();
        return print(&render_view(context, select(tasks, &args), DEFAULT_HEIGHT, 0).await.0);
    }
    let screen = Screen::open()?;
    let (key_sender, mut keys) = tokio::sync::mpsc::channel(1);
    // A thread of its own, because reading keys blocks. It is not joined: the process ends right after the view.
    std::thread::spawn(move || read_keys(&key_sender));
    let mut first = 0;
    let mut watch = TaskWatch::new(&context.client, args.all_users);
    watch.next().await?;
    let result = loop {
        let (width, height) = terminal::size()?;
        let mut resized = Context {
            terminal: context.terminal,
            client: context.client.clone(),
            user: context.user.clone(),
        };
        resized.terminal.width = Some(usize::from(width));
        let key = tokio::select! {
            (text, shown_from) = render_view(&resized, current(&watch, &args), usize::from(height), first) => {
                first = shown_from;
                screen.draw(&text, height)?;
                None
            }
            key = keys.recv() => key,
        };
        let key = match key {
            Some(key) => Some(key),
            None => tokio::select! {
                result = next_refresh(&mut watch) => match result {
                    Ok(()) => None,
                    Err(error) => break Err(error),
                },
                key = keys.recv() => Some(key.unwrap_or(Action::Quit)),
            },
        };
        match key {
            Some(Action::Quit) => break Ok(()),
            Some(Action::Scroll(tasks)) => first = first.saturating_add_signed(tasks),
            None => {}
        }
    };
    drop(screen);
    result
}

/// Waits until the view is worth drawing again: ages and last lines change all the time, and tasks now and then.
async fn next_refresh(watch: &mut TaskWatch<'_>) -> Result<()> {
    match timeout(REFRESH_INTERVAL, watch.next()).await {
        Ok(changed) => {
            changed?;
            // The last lines are read with each refresh, which must not happen more often.
            tokio::time::sleep(MIN_REFRESH_INTERVAL).await;
            Ok(())
        }
        Err(_) => Ok(()),
    }
}

fn current(watch: &TaskWatch<'_>, args: &TopArgs) -> Vec<TaskStatus> {
    select(watch.tasks().values().map(|task| task.item.clone()).collect(), args)
}

/// The tasks that the arguments name, or else all.
fn select(mut tasks: Vec<TaskStatus>, args: &TopArgs) -> Vec<TaskStatus> {
    tasks.retain(|task| args.tasks.is_empty() || args.tasks.contains(&task.task_id));
    tasks
}

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Quit,
    /// Scroll down by this number of tasks.
    Scroll(isize),
}

impl Action {
    fn of(key: KeyEvent) -> Option<Self> {
        let control_c = key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
        match key.code {
            _ if control_c => Some(Self::Quit),
            KeyCode::Char('q') | KeyCode::Esc => Some(Self::Quit),
            KeyCode::Down | KeyCode::Char('j') => Some(Self::Scroll(1)),
            KeyCode::Up | KeyCode::Char('k') => Some(Self::Scroll(-1)),
            KeyCode::PageDown | KeyCode::Char(' ') => Some(Self::Scroll(PAGE)),
            KeyCode::PageUp => Some(Self::Scroll(-PAGE)),
            KeyCode::Home => Some(Self::Scroll(isize::MIN)),
            _ => None,
        }
    }
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

/// Reads keys until the user quits. In raw mode, Ctrl-C is a key instead of SIGINT.
fn read_keys(actions: &tokio::sync::mpsc::Sender<Action>) {
    loop {
        let action = match event::read() {
            Ok(Event::Key(key)) => Action::of(key),
            Ok(_) => None,
            Err(_) => Some(Action::Quit),
        };
        let Some(action) = action else { continue };
        if actions.blocking_send(action).is_err() || action == Action::Quit {
            return;
        }
    }
}

/// The view from the task with index `first` on, or else from the last one, and the index of its first task.
async fn render_view(context: &Context, mut tasks: Vec<TaskStatus>, height: usize, first: usize) -> (String, usize) {
    let count = |state| tasks.iter().filter(|task| task.status == state).count();
    let mut title = format!(
        "{}: {} pending, {} running, {} completed, {} failed",
        plural(tasks.len(), "task"),
        count(TaskState::Pending),
        count(TaskState::Running),
        count(TaskState::Completed),
        count(TaskState::Failed)
    );
    // Active tasks first, then by latest change.
    tasks.sort_by_key(|task| (task.status.is_final(), std::cmp::Reverse(task.updated_at.clone())));
    let first = first.min(tasks.len().saturating_sub(1));
    let shown = select_fitting(&tasks[first..], height.saturating_sub(4));
    let more = tasks.len() - first - shown.len();
    if context.terminal.width.is_some() {
        title.push_str(if more > 0 || first > 0 {
            "   (arrow keys scroll, q quits)"
        } else {
            "   (q quits)"
        });
    }
    let title = cut(&title, context.terminal.width);
    let lines = join_all(shown.iter().map(|task| fetch_last_lines(context, task))).await;
    let mut table = Table::new(&[
        fixed("ID"),
        flexible("NAME"),
        fixed("STATUS"),
        fixed("NODE"),
        fixed("TIME"),
        flexible("LAST LINE"),
    ]);
    for (task, lines) in shown.iter().zip(lines) {
        add_task(&mut table, task, &lines);
    }
    let mut text = format!("{title}\n\n{}", table.render(context.terminal, true));
    if more > 0 {
        text.push_str(&format!("{}\n", plural(more, "more task")));
    }
    (text, first)
}

/// Cuts a line to the width of the terminal, or else the lines below it would move down.
fn cut(line: &str, width: Option<usize>) -> String {
    line.chars().take(width.unwrap_or(usize::MAX)).collect()
}

/// The tasks that fit into `rows`, counting a line for each node. The first task is always shown.
fn select_fitting(tasks: &[TaskStatus], rows: usize) -> Vec<&TaskStatus> {
    let mut left = rows;
    let fits = |task: &&TaskStatus| {
        let needed = line_count(task);
        let fits = needed <= left || left == rows;
        left = left.saturating_sub(needed);
        fits && needed > 0
    };
    tasks.iter().take_while(fits).collect()
}

fn line_count(task: &TaskStatus) -> usize {
    match task.metadata.nodes.len() {
        0 | 1 => 1,
        nodes if task.status.is_final() => nodes.min(1),
        nodes => nodes + 1,
    }
}

fn add_task(table: &mut Table, task: &TaskStatus, lines: &HashMap<u32, String>) {
    let reason = task.message.clone().or_else(|| task.reason.clone()).unwrap_or_default();
    let has_several_lines = line_count(task) > 1;
    let last_line = match (task.status, lines.get(&0)) {
        (TaskState::Pending | TaskState::Failed, _) => reason,
        (_, Some(line)) if !has_several_lines => line.clone(),
        _ => String::new(),
    };
    table.add_row(vec![
        Cell::from(task.task_id.as_str()),
        Cell::from(task.name.as_str()),
        status_cell(task.status),
        Cell::from(if task.metadata.num_nodes > 1 {
            format!("{} nodes", task.metadata.num_nodes)
        } else {
            String::new()
        }),
        Cell::from(task_duration(task).unwrap_or_else(|| age(&task.created_at))),
        Cell::from(last_line),
    ]);
    if !has_several_lines {
        return;
    }
    for node in &task.metadata.nodes {
        table.add_row(vec![
            Cell::from(""),
            Cell::from(""),
            status_cell(node.status),
            Cell::from(node.rank.to_string()),
            Cell::from(node_duration(node)),
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
async fn fetch_last_lines(context: &Context, task: &TaskStatus) -> HashMap<u32, String> {
    if task.status == TaskState::Pending {
        return HashMap::new();
    }
    let path = format!("/tasks/{}/logs?follow=false&tail=1", task.task_id);
    let Ok(Ok(bytes)) = timeout(LAST_LINE_TIMEOUT, context.client.get_bytes(&path)).await else {
        return HashMap::new();
    };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.lines()
        .filter_map(|line| parse_node_line(line, task.metadata.num_nodes))
        .collect()
}

/// Splits a log line into rank and text. Progress bars overwrite their line, so only the text after the last `\r` is
/// kept.
fn parse_node_line(line: &str, num_nodes: u32) -> Option<(u32, String)> {
    let (rank, text) = match num_nodes {
        1 => (0, line),
        _ => {
            let (rank, text) = line.strip_prefix("node-")?.split_once(" | ")?;
            // After the first attempt, the prefix is `node-1 attempt-2`.
            (rank.split(' ').next()?.parse().ok()?, text)
        }
    };
    let visible = text.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
    let plain = anstream::adapter::strip_str(visible).to_string();
    Some((rank, plain.chars().take(MAX_LINE_CHARACTERS).collect()))
}

#[cfg(test)]
mod tests {
    use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    use super::{Action, cut, parse_node_line};

    #[test]
    fn keys_scroll_and_quit() {
        let action = |code, modifiers| Action::of(KeyEvent::new(code, modifiers));
        assert_eq!(action(KeyCode::Down, KeyModifiers::NONE), Some(Action::Scroll(1)));
        assert_eq!(action(KeyCode::PageUp, KeyModifiers::NONE), Some(Action::Scroll(-10)));
        assert_eq!(action(KeyCode::Char('q'), KeyModifiers::NONE), Some(Action::Quit));
        assert_eq!(action(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Action::Quit));
        assert_eq!(action(KeyCode::Char('c'), KeyModifiers::NONE), None);
        assert_eq!(3_usize.saturating_add_signed(isize::MIN), 0);
        assert_eq!(cut("abc", Some(2)), "ab");
    }

    #[test]
    fn a_progress_bar_shows_what_it_showed_last() {
        assert_eq!(
            parse_node_line("10%\r20%\r\x1b[1m30%\x1b[0m\r", 1).unwrap(),
            (0, "30%".to_owned())
        );
        assert_eq!(
            parse_node_line("node-12 | a | b", 13).unwrap(),
            (12, "a | b".to_owned())
        );
        assert_eq!(parse_node_line("nothing", 2), None);
    }
}
