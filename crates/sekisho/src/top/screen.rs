//! The terminal: taken over for the display and given back however it ends.
//!
//! One thread waits for keys, one takes samples, one for signals; all send to the loop in [`run`], which alone draws. A
//! daemon that hangs keeps nobody from quitting.

use std::io::{self, BufWriter, Stdout, Write};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{Event, KeyEventKind};
use crossterm::style::{Attribute, Color as TermColor, Print, SetAttribute, SetForegroundColor};
use crossterm::terminal::{
    Clear, ClearType as TermClear, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode,
};
use crossterm::{execute, queue};
use ratatui_core::backend::{Backend, ClearType, WindowSize};
use ratatui_core::buffer::Cell;
use ratatui_core::layout::{Position, Size};
use ratatui_core::style::{Color, Modifier};
use ratatui_core::terminal::Terminal;
use switchd::ctl::status::Status;
use tokio::signal::unix::{SignalKind, signal};

use super::display::Display;
use super::draw::draw;
use super::model::View;
use super::source::Source;
use super::{FIRST, reason};
use crate::applet::{Failure, Outcome, Session};

/// What the loop waits for.
enum Input {
    Terminal(Event),
    Sample(Result<Box<Status>, String>),
    /// The terminal cannot be read any more.
    Gone(io::Error),
    /// A signal that ends the program, by its number.
    Signal(u8),
}

/// Shows the daemon until somebody quits.
pub fn run(
    session: &mut Session<'_>,
    source: Source,
    first: Status,
    interval: Duration,
) -> Outcome {
    session.out.flush()?;
    let screen = Taken::take()?;
    let outcome = show(session, source, first, interval);
    drop(screen);
    outcome
}

fn show(session: &Session<'_>, source: Source, first: Status, interval: Duration) -> Outcome {
    let (sender, inputs) = channel();
    read_terminal(sender.clone());
    wait_for_signals(sender.clone());
    let names = (session.program.clone(), session.argv0.clone());
    take_samples(names, source, interval, sender);
    let mut terminal = Terminal::new(Crossterm(BufWriter::new(io::stdout())))?;
    terminal.clear()?;
    let mut display = Display::new(interval);
    let mut view = View::of(&first, None);
    let mut before = first;
    let patience = 2 * interval + Duration::from_secs(3);
    let mut answered = Instant::now();
    loop {
        terminal.draw(|frame| draw(frame, &view, &mut display))?;
        let input = match inputs.recv_timeout(Duration::from_secs(1)) {
            Ok(input) => Some(input),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Ok(0),
        };
        match input {
            Some(Input::Sample(Ok(now))) => {
                answered = Instant::now();
                if !display.paused {
                    view = View::of(&now, Some(&before));
                }
                (before, display.trouble) = (*now, None);
            }
            Some(Input::Sample(Err(text))) => {
                answered = Instant::now();
                display.trouble = Some(text);
            }
            Some(Input::Terminal(Event::Key(key))) if key.kind == KeyEventKind::Press => {
                if display.key(key) {
                    return Ok(0);
                }
            }
            Some(Input::Terminal(_)) => {}
            Some(Input::Gone(e)) => {
                return Err(Failure::fatal(format!("cannot read the terminal: {e}")));
            }
            // As a shell tells of it.
            Some(Input::Signal(number)) => return Err(Failure::Silent(128 + number)),
            None => {
                let silence = answered.elapsed();
                if silence > patience {
                    let secs = silence.as_secs();
                    display.trouble = Some(format!("no answer for {secs} s"));
                }
            }
        }
    }
}

fn read_terminal(inputs: Sender<Input>) {
    std::thread::spawn(move || {
        loop {
            let event = crossterm::event::read();
            let is_end = event.is_err();
            let input = event.map_or_else(Input::Gone, Input::Terminal);
            if inputs.send(input).is_err() || is_end {
                return;
            }
        }
    });
}

fn wait_for_signals(inputs: Sender<Input>) {
    std::thread::spawn(move || {
        // Without it a signal ends the program as it would any.
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else {
            return;
        };
        runtime.block_on(async {
            let (Ok(mut term), Ok(mut hangup)) =
                (signal(SignalKind::terminate()), signal(SignalKind::hangup()))
            else {
                return;
            };
            let number = tokio::select! {
                _ = term.recv() => 15,
                _ = hangup.recv() => 1,
            };
            let _ = inputs.send(Input::Signal(number));
        });
    });
}

fn take_samples(
    (program, argv0): (String, String),
    mut source: Source,
    interval: Duration,
    inputs: Sender<Input>,
) {
    std::thread::spawn(move || {
        let mut pause = FIRST.min(interval);
        loop {
            std::thread::sleep(pause);
            pause = interval;
            // What would be said beside the display is said on it.
            let mut nowhere = (io::sink(), io::sink());
            let (program, argv0) = (program.clone(), argv0.clone());
            let mut quiet = Session { program, argv0, out: &mut nowhere.0, err: &mut nowhere.1 };
            let sample = source.sample(&mut quiet).map(Box::new).map_err(|e| reason(&e));
            if inputs.send(Input::Sample(sample)).is_err() {
                return;
            }
        }
    });
}

/// The terminal is ours.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal while it is ours; given back when this goes, and before a panic is told.
struct Taken;

impl Taken {
    fn take() -> io::Result<Taken> {
        let before = std::panic::take_hook();
        let drawing = std::thread::current().id();
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().id() == drawing {
                give_back();
            }
            before(panic);
        }));
        enable_raw_mode()?;
        TAKEN.store(true, SeqCst);
        let taken = Taken;
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        Ok(taken)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        give_back();
    }
}

/// Makes the terminal as it was. Where that fails nothing can be done.
fn give_back() {
    if TAKEN.swap(false, SeqCst) {
        let _ = execute!(io::stdout(), SetAttribute(Attribute::Reset), Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}

/// Draws cells on the terminal, with the styles that [`draw`] has: a foreground, and modifiers.
struct Crossterm(BufWriter<Stdout>);

fn foreground(color: Color) -> TermColor {
    match color {
        Color::Red => TermColor::Red,
        Color::Yellow => TermColor::Yellow,
        Color::Cyan => TermColor::Cyan,
        _ => TermColor::Reset,
    }
}

const ATTRIBUTES: [(Modifier, Attribute); 4] = [
    (Modifier::BOLD, Attribute::Bold),
    (Modifier::DIM, Attribute::Dim),
    (Modifier::UNDERLINED, Attribute::Underlined),
    (Modifier::REVERSED, Attribute::Reverse),
];

impl Backend for Crossterm {
    type Error = io::Error;

    fn draw<'a, I>(&mut self, content: I) -> io::Result<()>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        let out = &mut self.0;
        let (mut place, mut style) = (None, None);
        for (x, y, cell) in content {
            if place != Some((x, y)) {
                queue!(out, MoveTo(x, y))?;
            }
            if style != Some((cell.fg, cell.modifier)) {
                style = Some((cell.fg, cell.modifier));
                queue!(out, SetAttribute(Attribute::Reset))?;
                if cell.fg != Color::Reset {
                    queue!(out, SetForegroundColor(foreground(cell.fg)))?;
                }
                for (modifier, attribute) in ATTRIBUTES {
                    if cell.modifier.contains(modifier) {
                        queue!(out, SetAttribute(attribute))?;
                    }
                }
            }
            queue!(out, Print(cell.symbol()))?;
            place = Some((x + 1, y));
        }
        queue!(out, SetAttribute(Attribute::Reset))
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        execute!(self.0, Hide)
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        execute!(self.0, Show)
    }

    /// Nobody looks for it: the display has none.
    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(Position::ORIGIN)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        let Position { x, y } = position.into();
        execute!(self.0, MoveTo(x, y))
    }

    fn clear(&mut self) -> io::Result<()> {
        self.clear_region(ClearType::All)
    }

    fn clear_region(&mut self, region: ClearType) -> io::Result<()> {
        let region = match region {
            ClearType::All => TermClear::All,
            ClearType::AfterCursor => TermClear::FromCursorDown,
            ClearType::BeforeCursor => TermClear::FromCursorUp,
            ClearType::CurrentLine => TermClear::CurrentLine,
            ClearType::UntilNewLine => TermClear::UntilNewLine,
        };
        execute!(self.0, Clear(region))
    }

    /// A terminal that does not know its size is taken for the usual one.
    fn size(&self) -> io::Result<Size> {
        let (width, height) = match crossterm::terminal::size() {
            Ok((width @ 1.., height @ 1..)) => (width, height),
            _ => (80, 24),
        };
        Ok(Size { width, height })
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize { columns_rows: self.size()?, pixels: Size::ZERO })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
