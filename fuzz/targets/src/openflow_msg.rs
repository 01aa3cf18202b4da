//! OpenFlow messages: what is understood can be said, means the same again, and can be printed.
//!
//! Input: the bytes of one message.

use flow::text::NoNames;
use openflow::message::{Message, Session, frame_len};
use openflow::print::{BytesText, Style};

/// How the Nicira extension "flow mod table id" is read: as after it was turned on.
pub const SESSION: Session = Session { flow_mod_table_id: true };

/// Decodes, encodes, decodes again; prints in every verbosity.
pub fn target(data: &[u8]) {
    let _ = frame_len(data);
    for verbosity in 0..4 {
        let style = Style { names: &NoNames, verbosity, session: SESSION };
        let text = BytesText { bytes: data, style }.to_string();
        assert!(text.ends_with('\n'), "{text:?}");
    }
    let Ok(message) = Message::decode(data, SESSION) else { return };
    let Ok(bytes) = message.encode(SESSION) else { return };
    assert_eq!(frame_len(&bytes), Ok(Some(bytes.len())), "{message:?}");
    // A version may have another form for the same (`set_field` for Nicira's `set_tunnel`), but then it
    // stays so.
    let once = match Message::decode(&bytes, SESSION) {
        Ok(m) => m,
        Err(e) => panic!("{e}: what was said of {message:?}"),
    };
    let again = once.encode(SESSION);
    assert_eq!(again.as_deref(), Ok(&bytes[..]), "{message:?}");
}
