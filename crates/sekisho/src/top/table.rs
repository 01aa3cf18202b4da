//! A table as text: columns that are as wide as what stands in them, within a width if there is one.
//!
//! Where there is too little width, the last column that may be cut is, down to the room that it has at least; else columns
//! go, those first that matter least. The screen and `--once` show the same tables.

/// How a cell is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    /// As it is.
    #[default]
    Plain,
    /// Nothing happens there.
    Quiet,
    /// What a row is about.
    Strong,
    /// Worth a look.
    Warning,
    /// Broken.
    Bad,
}

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// What stands there.
    pub text: String,
    /// How it is meant.
    pub tone: Tone,
}

/// A cell of that tone.
pub fn cell(text: impl Into<String>, tone: Tone) -> Cell {
    Cell { text: text.into(), tone }
}

/// Where cells stand in their column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
    /// Text that may be cut.
    Cut,
}

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its head.
    pub head: &'static str,
    /// Where its cells stand.
    pub align: Align,
    /// Room that it has at least, so that columns do not move whenever a number has one more digit, and so much of what may be
    /// cut stays as long as other columns can go instead.
    pub width: usize,
    /// How much it matters: the least goes first. What matters most ([`KEEP`]) never goes.
    pub matters: u8,
}

/// Of a column that never goes.
pub const KEEP: u8 = u8::MAX;

/// Characters between two columns.
const GAP: usize = 2;
/// Characters that are left of a column that is cut, at least.
const LEAST: usize = 8;

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its columns.
    pub columns: Vec<Column>,
    /// Its rows, with a cell for each column.
    pub rows: Vec<Vec<Cell>>,
}

/// A table that is laid out: the columns that there is room for, each with its place in the table and width.
pub type Layout = Vec<(usize, usize)>;

impl Table {
    /// Which columns there is room for in `width` characters, and how wide each is.
    pub fn layout(&self, width: Option<usize>) -> Layout {
        let natural = |i: usize| {
            let cells = self.rows.iter().filter_map(|r| r.get(i)).map(|c| count(&c.text));
            let head = count(self.columns[i].head);
            cells.max().unwrap_or(0).max(head).max(self.columns[i].width)
        };
        let mut all: Layout = (0..self.columns.len()).map(|i| (i, natural(i))).collect();
        let Some(width) = width else { return all };
        loop {
            let total: usize = all.iter().map(|(_, w)| w + GAP).sum();
            let over = total.saturating_sub(width + GAP);
            if over == 0 {
                return all;
            }
            let matters = |n: &usize| self.columns[all[*n].0].matters;
            let least = (0..all.len()).rev().min_by_key(matters).filter(|n| matters(n) < KEEP);
            let cut = all.iter_mut().rev().find(|(i, _)| self.columns[*i].align == Align::Cut);
            match (cut, least) {
                (Some((i, w)), _) if *w >= self.columns[*i].width.max(LEAST) + over => *w -= over,
                (_, Some(n)) => drop(all.remove(n)),
                (Some((_, w)), None) => {
                    *w = w.saturating_sub(over).max(LEAST);
                    return all;
                }
                (None, None) => return all,
            }
        }
    }

    /// The line of heads.
    pub fn head(&self, layout: &Layout) -> Vec<String> {
        let heads = layout.iter().map(|(i, w)| pad(self.columns[*i].head, self.columns[*i], *w));
        heads.collect()
    }

    /// The cells of a row, each as wide as its column.
    pub fn row(&self, layout: &Layout, row: usize) -> Vec<Cell> {
        let column = |(i, w): &(usize, usize)| {
            let cell = self.rows.get(row)?.get(*i)?;
            Some(Cell { text: pad(&cell.text, self.columns[*i], *w), tone: cell.tone })
        };
        layout.iter().filter_map(column).collect()
    }

    /// All of it, line by line, in its natural width.
    pub fn lines(&self) -> Vec<String> {
        let layout = self.layout(None);
        let gap = " ".repeat(GAP);
        let line = |cells: Vec<String>| cells.join(&gap).trim_end().to_owned();
        let rows = (0..self.rows.len())
            .map(|n| self.row(&layout, n).into_iter().map(|c| c.text).collect());
        [self.head(&layout)].into_iter().chain(rows).map(line).collect()
    }
}

fn count(text: &str) -> usize {
    text.chars().count()
}

/// The text as wide as its column, cut if it is too long.
fn pad(text: &str, column: Column, width: usize) -> String {
    if count(text) > width {
        let kept: String = text.chars().take(width.saturating_sub(1)).collect();
        return kept + "…";
    }
    match column.align {
        Align::Right => format!("{text:>width$}"),
        Align::Left | Align::Cut => format!("{text:<width$}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let column = |head, align, matters| Column { head, align, width: 0, matters };
        let row = |cells: [&str; 3]| cells.map(|c| cell(c, Tone::Plain)).to_vec();
        Table {
            columns: vec![
                column("NAME", Align::Left, KEEP),
                column("N", Align::Right, 1),
                column("WHY", Align::Cut, KEEP),
            ],
            rows: vec![row(["a", "1", "all is well with this one"]), row(["long", "100", "é"])],
        }
    }

    fn lines(width: usize) -> Vec<String> {
        let t = table();
        let layout = t.layout(Some(width));
        let text = |n| t.row(&layout, n).into_iter().map(|c| c.text).collect::<Vec<_>>().join("  ");
        vec![t.head(&layout).join("  "), text(0), text(1)]
    }

    #[test]
    fn columns_are_as_wide_as_what_stands_in_them() {
        assert_eq!(
            table().lines(),
            ["NAME    N  WHY", "a       1  all is well with this one", "long  100  é"]
        );
    }

    #[test]
    fn too_little_width_cuts_text_and_then_takes_columns() {
        assert_eq!(
            lines(20),
            ["NAME    N  WHY      ", "a       1  all is w…", "long  100  é        "]
        );
        assert_eq!(lines(16), ["NAME  WHY       ", "a     all is we…", "long  é         "]);
        // It never goes below what is worth reading.
        assert_eq!(lines(3)[1], "a     all is …");
    }
}
