//! What somebody chose to see, by keys.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::sections::Section;

/// Rows that Page Up and Page Down go.
const PAGE: usize = 10;

/// What is to be shown, and how.
#[derive(Debug, Clone)]
pub struct Display {
    /// The one section that is shown; `None` for all.
    pub focus: Option<Section>,
    /// The first row of it that is shown.
    pub scroll: usize,
    /// The display stands still.
    pub paused: bool,
    /// Time between two looks.
    pub interval: Duration,
    /// What is wrong with the daemon.
    pub trouble: Option<String>,
    /// Places in [`Section::orders`].
    orders: [usize; Section::ALL.len()],
}

impl Display {
    /// All sections in their usual orders.
    pub fn new(interval: Duration) -> Display {
        Display {
            focus: None,
            scroll: 0,
            paused: false,
            interval,
            trouble: None,
            orders: Default::default(),
        }
    }

    /// The order of a section's rows.
    pub fn order(&self, section: Section) -> usize {
        self.orders[section as usize]
    }

    /// The section that the next change of order is for.
    pub fn ordered(&self) -> Section {
        self.focus.unwrap_or(Section::Ports)
    }

    /// Follows a key. Returns whether it was the last.
    pub fn key(&mut self, key: KeyEvent) -> bool {
        if key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) {
            return key.code == KeyCode::Char('c') && key.modifiers == KeyModifiers::CONTROL;
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Char('a' | '0') => self.show(None),
            KeyCode::Char(digit @ '1'..='5') => {
                self.show(Section::ALL.get(digit as usize - '1' as usize).copied());
            }
            KeyCode::Tab => self.turn(1),
            KeyCode::BackTab => self.turn(Section::ALL.len()),
            KeyCode::Char('s') => {
                let section = self.ordered();
                let order = &mut self.orders[section as usize];
                *order = (*order + 1) % section.orders().len();
                self.scroll = 0;
            }
            KeyCode::Char(' ' | 'p') => self.paused ^= true,
            KeyCode::Up | KeyCode::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.scroll += 1,
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(PAGE),
            KeyCode::PageDown => self.scroll += PAGE,
            KeyCode::Home => self.scroll = 0,
            _ => {}
        }
        false
    }

    fn show(&mut self, focus: Option<Section>) {
        (self.focus, self.scroll) = (focus, 0);
    }

    /// Goes so many places on in the circle of the sections and all of them.
    fn turn(&mut self, places: usize) {
        let here = self.focus.map_or(0, |s| s as usize + 1);
        let there = (here + places) % (Section::ALL.len() + 1);
        self.show(there.checked_sub(1).map(|i| Section::ALL[i]));
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn press(display: &mut Display, code: KeyCode) -> bool {
        display.key(KeyEvent::from(code))
    }

    #[test]
    fn sections_go_in_a_circle() {
        let mut d = Display::new(Duration::from_secs(1));
        let mut seen = vec![d.focus];
        for _ in 0..6 {
            assert!(!press(&mut d, KeyCode::Tab));
            seen.push(d.focus);
        }
        assert!(seen[1..6].iter().copied().eq(Section::ALL.map(Some)));
        assert_eq!((seen[0], seen[6]), (None, None));
        press(&mut d, KeyCode::BackTab);
        assert_eq!(d.focus, Some(Section::Drops));
        press(&mut d, KeyCode::Char('3'));
        assert_eq!(d.focus, Some(Section::Zones));
        press(&mut d, KeyCode::Char('a'));
        assert_eq!(d.focus, None);
    }

    #[test]
    fn each_section_has_an_order_of_its_own() {
        let mut d = Display::new(Duration::from_secs(1));
        press(&mut d, KeyCode::Char('s'));
        press(&mut d, KeyCode::Char('4'));
        press(&mut d, KeyCode::Char('s'));
        let names = |d: &Display| Section::ALL.map(|s| s.orders()[d.order(s)]);
        assert_eq!(names(&d), ["packets", "core", "connections", "packets", "rate"]);
        press(&mut d, KeyCode::Char('s'));
        assert_eq!(names(&d)[3], "traffic");
    }

    #[test]
    fn scrolling_begins_anew_in_another_section() {
        let mut d = Display::new(Duration::from_secs(1));
        press(&mut d, KeyCode::Char('1'));
        press(&mut d, KeyCode::PageDown);
        press(&mut d, KeyCode::Up);
        assert_eq!(d.scroll, 9);
        press(&mut d, KeyCode::Tab);
        assert_eq!(d.scroll, 0);
        press(&mut d, KeyCode::Up);
        assert_eq!(d.scroll, 0);
    }

    #[test]
    fn some_keys_quit() {
        let mut d = Display::new(Duration::from_secs(1));
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert!(d.key(control_c) && press(&mut d, KeyCode::Esc));
        assert!(press(&mut d, KeyCode::Char('q')) && !press(&mut d, KeyCode::Char('c')));
        let control_space = KeyEvent::new(KeyCode::Char(' '), KeyModifiers::CONTROL);
        assert!(!d.key(control_space) && !d.paused);
    }
}
