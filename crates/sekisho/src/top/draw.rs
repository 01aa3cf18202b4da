//! What the screen shows: a title, a summary, the sections, a line of keys.
//!
//! All sections together share the lines: each has its head and a row, and as many rows more as there is room for,
//! in turn. One section alone has all, and scrolls.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::{Color, Modifier, Style};
use ratatui_core::terminal::Frame;
use ratatui_core::text::{Line, Span};

use super::display::Display;
use super::model::View;
use super::sections::{Section, summary};
use super::table::{Table, Tone};

/// Lines above the sections, and the one below.
const ABOVE: u16 = 3;
const BELOW: u16 = 1;
/// The least lines of a section: its head and one row.
const LEAST: usize = 2;

const TITLE: Style = Style::new().add_modifier(Modifier::REVERSED.union(Modifier::BOLD));
const HEAD: Style = Style::new().add_modifier(Modifier::UNDERLINED);
const NAME: Style = HEAD.fg(Color::Cyan).add_modifier(Modifier::BOLD);
const KEY: Style = Style::new().fg(Color::Cyan).add_modifier(Modifier::BOLD);
const QUIET: Style = Style::new().add_modifier(Modifier::DIM);
const TROUBLE: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);

fn style(tone: Tone) -> Style {
    match tone {
        Tone::Plain => Style::new(),
        Tone::Quiet => QUIET,
        Tone::Strong => Style::new().add_modifier(Modifier::BOLD),
        Tone::Warning => Style::new().fg(Color::Yellow).add_modifier(Modifier::BOLD),
        Tone::Bad => TROUBLE,
    }
}

/// Draws the whole screen. Scrolling ends at the last row.
pub fn draw(frame: &mut Frame<'_>, view: &View, display: &mut Display) {
    let area = frame.area();
    let buf = frame.buffer_mut();
    let sections = Rect {
        y: area.y + ABOVE.min(area.height),
        height: area.height.saturating_sub(ABOVE + BELOW),
        ..area
    };
    head(buf, area, view, display);
    match display.focus {
        None => all(buf, sections, view, display),
        Some(section) => one(buf, sections, view, display, section),
    }
    keys(buf, area, display);
}

/// Puts a line at a row of the area, if it has that.
fn put(buf: &mut Buffer, area: Rect, row: u16, line: &Line<'_>) {
    if row < area.height {
        buf.set_line(area.x, area.y + row, line, area.width);
    }
}

fn head(buf: &mut Buffer, area: Rect, view: &View, display: &Display) {
    let left = format!(" sekisho top   {}", view.datapath);
    let pace = match display.paused {
        true => "paused".to_owned(),
        false => format!("every {} s", display.interval.as_secs_f64()),
    };
    // The time of the day, without fractions.
    let time = view.time.get(11..19).unwrap_or(&view.time);
    let right = format!("{pace}   {time} UTC ");
    let width = usize::from(area.width);
    let gap = width.saturating_sub(left.chars().count());
    put(buf, area, 0, &Line::styled(format!("{left}{right:>gap$}"), TITLE));
    let [first, second] = summary(view);
    match &display.trouble {
        Some(trouble) => {
            put(buf, area, 1, &Line::styled(format!(" {trouble}"), TROUBLE));
            put(buf, area, 2, &Line::styled(" trying again; this was seen last:", QUIET));
        }
        None => {
            put(buf, area, 1, &Line::raw(format!(" {first}")));
            put(buf, area, 2, &Line::raw(format!(" {second}")));
        }
    }
}

fn keys(buf: &mut Buffer, area: Rect, display: &Display) {
    let section = display.ordered();
    let order = section.orders()[display.order(section)];
    let order = format!("order: {order}");
    let mut line = Line::default();
    let pause = if display.paused { "go on" } else { "pause" };
    let scrolls = display.focus.is_some().then_some(("↑↓", "scroll"));
    let all = display.focus.is_some().then_some(("a", "all"));
    let keys = [("q", "quit"), ("Tab", "section")];
    for (key, what) in
        keys.into_iter().chain(all).chain([("s", &*order)]).chain(scrolls).chain([("Space", pause)])
    {
        line.push_span(Span::styled(format!(" {key}"), KEY));
        line.push_span(Span::styled(format!(" {what} "), QUIET));
    }
    if area.height > ABOVE {
        put(buf, area, area.height - BELOW, &line);
    }
}

fn all(buf: &mut Buffer, area: Rect, view: &View, display: &Display) {
    let tables = Section::ALL.map(|s| (s, s.table(view, display.order(s))));
    let wanted: Vec<usize> = tables.iter().map(|(_, t)| 1 + t.rows.len().max(1)).collect();
    let lines = share_out(usize::from(area.height), &wanted);
    // With room to spare there is a line between sections.
    let spare = usize::from(area.height).saturating_sub(lines.iter().sum());
    let gap = u16::from(spare >= lines.len() - 1);
    let mut y = area.y;
    for ((section, table), n) in tables.into_iter().zip(lines) {
        let height = u16::try_from(n).unwrap_or(u16::MAX);
        let place = Rect { y, height, ..area };
        draw_table(buf, place, section, &table, 0);
        y += height + if height > 0 { gap } else { 0 };
    }
}

fn one(buf: &mut Buffer, area: Rect, view: &View, display: &mut Display, section: Section) {
    let table = section.table(view, display.order(section));
    let shown = usize::from(area.height.saturating_sub(1));
    display.scroll = display.scroll.min(table.rows.len().saturating_sub(shown));
    draw_table(buf, area, section, &table, display.scroll);
}

/// How many lines each gets of those that there are: the least first, then one more in turn until all have what they
/// want. Where there are too few for that, the last have none.
fn share_out(lines: usize, wanted: &[usize]) -> Vec<usize> {
    let mut left = lines;
    let mut shares: Vec<usize> = wanted
        .iter()
        .map(|_| {
            let share = if left >= LEAST { LEAST } else { 0 };
            left -= share;
            share
        })
        .collect();
    while left > 0 {
        let before = left;
        for (share, wanted) in shares.iter_mut().zip(wanted) {
            if left > 0 && (1..*wanted).contains(share) {
                *share += 1;
                left -= 1;
            }
        }
        if left == before {
            break;
        }
    }
    shares
}

fn draw_table(buf: &mut Buffer, area: Rect, section: Section, table: &Table, first: usize) {
    // A character is left free on both sides.
    let inner = Rect { x: area.x + 1, width: area.width.saturating_sub(2), ..area };
    let n_rows = usize::from(area.height.saturating_sub(1));
    let layout = table.layout(Some(usize::from(inner.width)));
    let mut heads = table.head(&layout);
    if table.rows.len() > n_rows
        && let Some(name) = heads.first_mut()
    {
        let width = name.chars().count();
        let last = (first + n_rows).min(table.rows.len());
        let counted = format!("{} {last}/{}", name.trim_end(), table.rows.len());
        // Only where there is room for the whole.
        if counted.chars().count() <= width {
            *name = format!("{counted:<width$}");
        }
    }
    let mut line = Line::default();
    for (i, head) in heads.into_iter().enumerate() {
        line.push_span(Span::styled(head, if i == 0 { NAME } else { HEAD }));
        line.push_span(Span::styled("  ", HEAD));
    }
    line.push_span(Span::styled(" ".repeat(usize::from(inner.width)), HEAD));
    put(buf, inner, 0, &line);
    if table.rows.is_empty() {
        put(buf, inner, 1, &Line::styled(section.nothing(), QUIET));
    }
    for (row, y) in (first..table.rows.len()).zip(1..area.height) {
        let mut line = Line::default();
        for cell in table.row(&layout, row) {
            line.push_span(Span::styled(cell.text, style(cell.tone)));
            line.push_span("  ");
        }
        put(buf, inner, y, &line);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crossterm::event::KeyCode;
    use ratatui_core::backend::TestBackend;
    use ratatui_core::terminal::Terminal;

    use super::super::display::tests::press;
    use super::super::model::tests::status;
    use super::*;

    fn screen(width: u16, height: u16, display: &mut Display) -> Buffer {
        let view = View::of(&status(61_000), Some(&status(60_000)));
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, &view, display)).unwrap();
        terminal.backend().buffer().clone()
    }

    fn text(buffer: &Buffer) -> String {
        let area = buffer.area;
        let line = |y| {
            let cells = (0..area.width).map(|x| buffer[(x, y)].symbol());
            cells.collect::<String>().trim_end().to_owned() + "\n"
        };
        (0..area.height).map(line).collect()
    }

    fn display() -> Display {
        Display::new(Duration::from_secs(1))
    }

    fn pressed(keys: &[KeyCode]) -> Display {
        let mut display = display();
        for key in keys {
            press(&mut display, *key);
        }
        display
    }

    #[test]
    fn all_sections_on_the_usual_terminal() {
        assert_eq!(text(&screen(80, 24, &mut display())), include_str!("screens/80x24.txt"));
    }

    #[test]
    fn all_sections_on_a_larger_one() {
        assert_eq!(text(&screen(132, 34, &mut display())), include_str!("screens/132x34.txt"));
    }

    #[test]
    fn what_there_is_no_room_for_is_counted() {
        assert_eq!(text(&screen(60, 12, &mut display())), include_str!("screens/60x12.txt"));
        // However small: it only must not fail.
        for (width, height) in [(1, 1), (3, 3), (20, 4), (300, 2)] {
            screen(width, height, &mut display());
        }
    }

    #[test]
    fn one_section_scrolls_to_its_last_row() {
        let keys = [KeyCode::Char('1'), KeyCode::Char('s'), KeyCode::PageDown];
        let mut display = pressed(&keys);
        let text = text(&screen(80, 7, &mut display));
        let lines: Vec<_> = text.lines().skip(3).collect();
        assert_eq!(
            lines,
            [
                " PORT 4/4      LINK    RX bit/s  RX pkt/s  TX bit/s  TX pkt/s  DROP/s  ERR/s",
                " gone0         error          -         -         -         -       -      -",
                " patch0        up             -         -         -         -       -      -",
                " q quit  Tab section  a all  s order: packets  ↑↓ scroll  Space pause",
            ]
        );
        assert_eq!(display.scroll, 2);
    }

    #[test]
    fn what_is_wrong_with_the_daemon_is_said_above_what_was_seen_last() {
        let mut display = pressed(&[KeyCode::Char(' ')]);
        display.trouble = Some("cannot connect".to_owned());
        let buffer = screen(80, 24, &mut display);
        let text = text(&buffer);
        let lines: Vec<_> = text.lines().take(3).collect();
        assert_eq!(
            lines,
            [
                " sekisho top   netdev@ovs-netdev                          paused   12:50:18 UTC",
                " cannot connect",
                " trying again; this was seen last:",
            ]
        );
        assert_eq!(buffer[(1, 1)].fg, Color::Red);
    }

    #[test]
    fn what_matters_stands_out() {
        let buffer = screen(80, 24, &mut display());
        let at = |x, y| {
            let cell = &buffer[(x, y)];
            (cell.symbol(), cell.fg, cell.modifier)
        };
        assert_eq!(at(1, 3), ("P", Color::Cyan, Modifier::BOLD | Modifier::UNDERLINED));
        assert_eq!(at(15, 6), ("e", Color::Red, Modifier::BOLD), "a port that does not run");
        assert_eq!(at(68, 4), ("3", Color::Yellow, Modifier::BOLD), "drops");
        assert_eq!(at(75, 4), ("0", Color::Reset, Modifier::DIM), "no errors");
    }

    #[test]
    fn lines_are_shared() {
        assert_eq!(share_out(20, &[5, 4, 3]), [5, 4, 3]);
        assert_eq!(share_out(9, &[5, 4, 2]), [4, 3, 2]);
        assert_eq!(share_out(5, &[5, 4, 3]), [3, 2, 0]);
        assert_eq!(share_out(1, &[5, 4]), [0, 0]);
    }
}
