//! Tables as aligned text or Markdown.

use std::fmt::Write as _;

/// Headings, which columns are names and stand left, and rows of as many cells.
pub(crate) struct Grid {
    pub(crate) headings: Vec<String>,
    pub(crate) left: Vec<usize>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Grid {
    pub(crate) fn text(&self, markdown: bool) -> String {
        if markdown {
            self.markdown()
        } else {
            self.aligned()
        }
    }

    fn aligned(&self) -> String {
        let mut widths: Vec<usize> = self.headings.iter().map(|h| h.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for row in std::iter::once(&self.headings).chain(&self.rows) {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let _ = if self.left.contains(&column) {
                    write!(line, "{cell:<width$}  ")
                } else {
                    write!(line, "{cell:>width$}  ")
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    fn markdown(&self) -> String {
        let mut text = format!("| {} |\n|", self.headings.join(" | "));
        for column in 0..self.headings.len() {
            text.push_str(if self.left.contains(&column) {
                "---|"
            } else {
                "--:|"
            });
        }
        text.push('\n');
        for row in &self.rows {
            let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(markdown: bool) -> String {
        let words = |words: [&str; 3]| words.map(str::to_owned).to_vec();
        let grid = Grid {
            headings: words(["op", "rate", "goal"]),
            left: vec![0, 2],
            rows: vec![words(["GET", "1", ""]), words(["a|b", "12,345", "met"])],
        };
        grid.text(markdown)
    }

    #[test]
    fn columns_line_up() {
        let expected = "op     rate  goal\nGET       1\na|b  12,345  met\n";
        assert_eq!(text(false), expected);
    }

    #[test]
    fn markdown_keeps_its_columns() {
        let expected =
            "| op | rate | goal |\n|---|--:|---|\n| GET | 1 |  |\n| a\\|b | 12,345 | met |\n\n";
        assert_eq!(text(true), expected);
    }
}
