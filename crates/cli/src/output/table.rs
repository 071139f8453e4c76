//! Tables in the style of kubectl: no borders, upper-case headers, one line per item.

use anstyle::{AnsiColor, Style};
use escape::escape_line;
use task::TaskState;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::terminal::Terminal;

/// Spaces between columns.
const GAP: usize = 3;

/// Minimum width of a truncated column.
const MIN_WIDTH: usize = 8;

/// Minimum number of columns on a narrow terminal: ID, name, and status.
const MIN_COLUMNS: usize = 3;

#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

/// A column; see [`fixed`] and [`flexible`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    name: &'static str,
    is_flexible: bool,
}

/// A column that is never truncated, e.g., IDs.
pub(crate) const fn fixed(name: &'static str) -> Column {
    Column {
        name,
        is_flexible: false,
    }
}

/// A column that may be truncated to fit the terminal.
pub(crate) const fn flexible(name: &'static str) -> Column {
    Column {
        name,
        is_flexible: true,
    }
}

impl<T: Into<String>> From<T> for Cell {
    /// Escapes control characters: names and messages come from other users.
    fn from(text: T) -> Self {
        Self {
            text: escape_line(&text.into()),
            style: Style::new(),
        }
    }
}

pub(crate) fn or_dash(text: Option<&String>) -> Cell {
    Cell::from(text.map_or("-", String::as_str))
}

/// The status of a task or node, in color.
pub(crate) fn status_cell(state: TaskState) -> Cell {
    let color = match state {
        TaskState::Pending => AnsiColor::Yellow,
        TaskState::Running => AnsiColor::Cyan,
        TaskState::Completed => AnsiColor::Green,
        TaskState::Failed => AnsiColor::Red,
    };
    Cell {
        text: state.to_string(),
        style: color.on_default(),
    }
}

impl Table {
    /// A table with these columns, the most important ones first: the last ones are dropped on a narrow terminal.
    pub(crate) fn new(columns: &[Column]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn add_row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.columns.len(), "one cell per column");
        self.rows.push(cells);
    }

    /// Renders the table, fitted to the width of the terminal if there is one.
    pub(crate) fn render(self, terminal: Terminal, headers: bool) -> String {
        self.render_below(terminal, headers, &mut Vec::new())
    }

    /// The same as a continuation of an earlier table: columns are at least as wide as in `above`, which is updated.
    pub(crate) fn render_below(mut self, terminal: Terminal, headers: bool, above: &mut Vec<usize>) -> String {
        if headers {
            let bold = Style::new().bold();
            let name = |column: &Column| Cell {
                text: column.name.to_owned(),
                style: bold,
            };
            self.rows.insert(0, self.columns.iter().map(name).collect());
        }
        above.resize(self.columns.len(), 0);
        for (index, width) in above.iter_mut().enumerate() {
            let widest = self.rows.iter().map(|row| row[index].text.width()).max();
            *width = widest.unwrap_or(0).max(*width);
        }
        let mut widths = above.clone();
        if let Some(limit) = terminal.width {
            fit_widths(&mut widths, &self.columns, limit);
        }
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                draw_cell(cell, *width, terminal.color, &mut line);
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Narrows the widest flexible columns; if that is not enough, drops the last columns.
fn fit_widths(widths: &mut Vec<usize>, columns: &[Column], limit: usize) {
    loop {
        let total = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
        let Some(excess) = total.checked_sub(limit).filter(|excess| *excess > 0) else {
            return;
        };
        let widest = (0..widths.len())
            .filter(|index| columns[*index].is_flexible && widths[*index] > MIN_WIDTH)
            .max_by_key(|index| widths[*index]);
        match widest {
            // In small steps, so that several wide columns shrink evenly.
            Some(index) => widths[index] -= excess.min(widths[index] - MIN_WIDTH).min(1.max(widths[index] / 8)),
            None if widths.len() > MIN_COLUMNS => {
                widths.pop();
            }
            None => return,
        }
    }
}

fn draw_cell(cell: &Cell, width: usize, color: bool, line: &mut String) {
    let style = if color { cell.style } else { Style::new() };
    let text = truncate(&cell.text, width);
    line.push_str(&format!("{style}{text}{style:#}"));
    line.extend(std::iter::repeat_n(' ', (width + GAP).saturating_sub(text.width())));
}

/// Truncates text to `width` columns, with an ellipsis.
fn truncate(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut used = 1;
    for character in text.chars() {
        used += character.width().unwrap_or(0);
        if used > width {
            break;
        }
        cut.push(character);
    }
    // A sequence of characters, e.g., an emoji with a variation selector, can be wider than the sum of its characters.
    while cut.width() >= width && cut.pop().is_some() {}
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::{Cell, Table, fixed, flexible};
    use crate::output::Terminal;

    fn rendered(width: Option<usize>) -> String {
        let mut table = Table::new(&[
            fixed("ID"),
            flexible("NAME"),
            fixed("STATUS"),
            flexible("MESSAGE"),
            fixed("AGE"),
        ]);
        let names = [
            "a name that is rather long for a table",
            "名前が長いタスクです、とても長い ✔️✔️✔️✔️✔️✔️✔️✔️✔️✔️✔️✔️✔️✔️",
        ];
        for name in names {
            let cells = [
                "abcd1234",
                name,
                "completed",
                "one\ntwo \x1b[1m three four five six seven",
                "5m",
            ];
            table.add_row(cells.map(Cell::from).to_vec());
        }
        table.render(Terminal { width, color: false }, true)
    }

    #[test]
    fn a_table_is_never_wider_than_the_terminal() {
        for width in 34..120 {
            for line in rendered(Some(width)).lines() {
                assert!(line.width() <= width, "{width}: {line}");
                assert!(line.starts_with("ID  ") || line.starts_with("abcd1234  "), "{line}");
            }
        }
    }

    #[test]
    fn in_a_pipe_nothing_is_cut() {
        let text = rendered(None);
        assert!(text.contains("名前が長いタスクです、とても長い"), "{text}");
        assert!(!text.contains('…') && !text.contains('\x1b'), "{text}");
    }
}
