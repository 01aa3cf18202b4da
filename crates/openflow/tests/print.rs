//! Messages printed as `ovs-ofctl ofp-print` of OVS 3.1 prints them.

use flow::text::NoNames;
use openflow::message::Session;
use openflow::print::{BytesText, Style};

/// Bytes in hexadecimal on a line, then what OVS prints, each line behind a tab.
const PRINTED: &str = include_str!("data/printed.txt");

#[test]
fn messages_read_as_in_ovs() {
    let mut cases: Vec<(&str, String)> = Vec::new();
    for line in PRINTED.lines() {
        match line.strip_prefix('\t') {
            Some(text) => {
                let want = &mut cases.last_mut().unwrap().1;
                want.push_str(text);
                want.push('\n');
            }
            None => cases.push((line, String::new())),
        }
    }
    assert!(cases.len() > 80, "{}", cases.len());
    let style =
        Style { names: &NoNames, verbosity: 2, session: Session { flow_mod_table_id: true } };
    let mut wrong = String::new();
    for (hex, want) in cases {
        let bytes: Vec<u8> = (0..hex.len() / 2)
            .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
            .collect();
        let got = BytesText { bytes: &bytes, style }.to_string();
        if got != want {
            wrong += &format!("{hex}\nwant {want:?}\ngot  {got:?}\n");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}
