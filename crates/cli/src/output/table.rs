//! Tables as kubectl prints them: no borders, names of columns in capitals, one line for each thing.

use anstyle::{AnsiColor, Style};
use task::State;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::{Terminal, plain_line};

/// The space between two columns.
const GAP: usize = 3;

/// What is left of a text that is cut, at least.
const MIN_WIDTH: usize = 8;

/// How many columns stay on a terminal that is too narrow for all: the identifier, the name and the state.
const MIN_COLUMNS: usize = 3;

/// A text in a table, and perhaps a colour.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    text: String,
    style: Style,
}

/// Rows under names.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

/// A column; see [`fixed`] and [`flexible`].
#[derive(Debug, Clone, Copy)]
pub struct Column {
    name: &'static str,
    is_flexible: bool,
}

/// A column whose texts are never cut, such as identifiers.
pub const fn fixed(name: &'static str) -> Column {
    Column {
        name,
        is_flexible: false,
    }
}

/// A column whose texts may be cut.
pub const fn flexible(name: &'static str) -> Column {
    Column {
        name,
        is_flexible: true,
    }
}

impl<T: Into<String>> From<T> for Cell {
    /// Text of strangers: a task's name or reason must not move the cursor.
    fn from(text: T) -> Self {
        Self {
            text: plain_line(&text.into()),
            style: Style::new(),
        }
    }
}

/// A text that may be absent.
pub fn or_dash(text: Option<&String>) -> Cell {
    Cell::from(text.map_or("-", String::as_str))
}

/// The state of a task or of a node.
pub fn status_cell(state: State) -> Cell {
    let color = match state {
        State::Pending => AnsiColor::Yellow,
        State::Running => AnsiColor::Cyan,
        State::Completed => AnsiColor::Green,
        State::Failed => AnsiColor::Red,
    };
    Cell {
        text: state.to_string(),
        style: color.on_default(),
    }
}

impl Table {
    /// A table with these columns, the most important ones first.
    pub fn new(columns: &[Column]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a line.
    pub fn add(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.columns.len(), "as many cells as columns");
        self.rows.push(cells);
    }

    /// The text, made to fit the terminal's width if there is one.
    pub fn render(self, terminal: Terminal, headers: bool) -> String {
        self.render_below(terminal, headers, &mut Vec::new())
    }

    /// The same below a table whose columns had these widths: they stay, or grow.
    pub fn render_below(mut self, terminal: Terminal, headers: bool, above: &mut Vec<usize>) -> String {
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
            fit(&mut widths, &self.columns, limit);
        }
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                draw(cell, *width, terminal.color, &mut line);
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Cuts the widest texts that may be cut; where that is not enough, leaves out the last columns.
fn fit(widths: &mut Vec<usize>, columns: &[Column], limit: usize) {
    loop {
        let total = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
        let Some(excess) = total.checked_sub(limit).filter(|excess| *excess > 0) else {
            return;
        };
        let widest = (0..widths.len())
            .filter(|index| columns[*index].is_flexible && widths[*index] > MIN_WIDTH)
            .max_by_key(|index| widths[*index]);
        match widest {
            // In steps, so that two wide columns become narrow together.
            Some(index) => widths[index] -= excess.min(widths[index] - MIN_WIDTH).min(1.max(widths[index] / 8)),
            None if widths.len() > MIN_COLUMNS => {
                widths.pop();
            }
            None => return,
        }
    }
}

fn draw(cell: &Cell, width: usize, color: bool, line: &mut String) {
    let style = if color { cell.style } else { Style::new() };
    let shown = cut(&cell.text, width);
    line.push_str(&format!("{style}{shown}{style:#}"));
    line.extend(std::iter::repeat_n(' ', (width + GAP).saturating_sub(shown.width())));
}

/// The beginning of a text, and a sign that there is more.
fn cut(text: &str, width: usize) -> String {
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
    // Some characters are wider together than one by one.
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
            table.add(cells.map(Cell::from).to_vec());
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
