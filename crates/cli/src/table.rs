//! Aligned columns.

use std::fmt::Write as _;

use crate::output::Paint;

/// Rows under headings. Columns are as wide as their widest cell; the last one is not padded.
#[derive(Debug)]
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

/// A text and how it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

/// What a cell's colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Nothing in particular.
    Plain,
    /// As it should be.
    Good,
    /// On its way, or worth a look.
    Busy,
    /// Wrong.
    Bad,
}

impl Cell {
    /// A cell that says something by its colour too.
    pub fn new(text: impl Into<String>, tone: Tone) -> Self {
        // A line break inside would tear the table.
        Self { text: text.into().replace(['\n', '\r'], " "), tone }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Tone::Plain)
    }
}

impl Table {
    /// An empty table.
    pub fn new(headings: &[&'static str]) -> Self {
        Self { headings: headings.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; it has as many cells as there are headings.
    pub fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        debug_assert_eq!(N, self.headings.len());
        self.rows.push(cells.into());
    }

    /// Adds a row whose width is only known at run time.
    pub fn cells(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.headings.len());
        self.rows.push(cells);
    }

    /// True if there is nothing under the headings.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as lines, each ended.
    pub fn render(&self, paint: Paint) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].text.chars().count());
            cells.chain([self.headings[column].chars().count()]).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..self.headings.len()).map(width).collect();
        let mut out = String::new();
        let headings: Vec<Cell> = self.headings.iter().map(|h| Cell::from(*h)).collect();
        self.line(&mut out, &headings, &widths, |text, _| paint.bold(text));
        for row in &self.rows {
            self.line(&mut out, row, &widths, |text, tone| match tone {
                Tone::Plain => text.to_owned(),
                Tone::Good => paint.green(text),
                Tone::Busy => paint.yellow(text),
                Tone::Bad => paint.red(text),
            });
        }
        out
    }

    fn line(&self, out: &mut String, cells: &[Cell], widths: &[usize], style: impl Fn(&str, Tone) -> String) {
        let last = self.headings.len().saturating_sub(1);
        for (column, cell) in cells.iter().enumerate() {
            // Colour codes have no width: the padding comes after them.
            let pad = if column == last { 0 } else { widths[column] + 2 - cell.text.chars().count() };
            let _ = write!(out, "{}{:pad$}", style(&cell.text, cell.tone), "");
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["NAME", "HOME", "WHY"]);
        table.row(["unit-1".into(), "chengdu-1".into(), "serves\nwell".into()]);
        table.row(["u".into(), Cell::new("-", Tone::Bad), "".into()]);
        let text = table.render(Paint::none());
        assert_eq!(text, "NAME    HOME       WHY\nunit-1  chengdu-1  serves well\nu       -\n");
    }
}
