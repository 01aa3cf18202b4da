//! The masks of megaflows, out of what `dpctl/dump-flows` prints.

use std::collections::BTreeSet;

/// The masks of the flows whose line has `what` in it, each as a line is without its values.
pub fn of(dump: &str, what: &str) -> BTreeSet<String> {
    dump.lines().filter(|line| line.contains(what)).filter_map(mask).collect()
}

/// A line without its name, counters and actions, and without the values: of `src=10.0.0.0/255.0.0.0` the mask stays.
fn mask(line: &str) -> Option<String> {
    let key = line.split_once(", packets:")?.0;
    let key = &key[key.find("recirc_id(").or_else(|| key.find("in_port("))?..];
    let mut mask = String::new();
    for word in key.split_inclusive(['(', ')', ',']) {
        let (word, end) = word.split_at(word.len() - 1);
        match (word.split_once('/'), word.split_once('=')) {
            (Some((value, bits)), _) => {
                mask.extend([value.split_once('=').map_or("", |(name, _)| name), "/", bits]);
            }
            (None, Some((name, _))) => mask.push_str(name),
            // A field's name, or a whole field.
            (None, None) if end == "(" => mask.push_str(word),
            (None, None) => {}
        }
        mask.push_str(end);
    }
    Some(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_do_not_count_and_masks_do() {
        let line = |src: &str, port: &str| {
            format!(
                "ufid:1, recirc_id(0),in_port(4),eth_type(0x0800),ipv4(src={src},frag=no),\
                 tcp(src={port}), packets:0, bytes:0, used:never, actions:drop"
            )
        };
        let dump = [
            line("10.0.0.0/255.0.0.0", "1"),
            line("11.0.0.0/255.0.0.0", "2"),
            line("11.0.0.0/255.128.0.0", "2"),
            line("11.0.0.0/255.128.0.0", "0/0x8000"),
            line("11.0.0.0/255.0.0.0", "2").replace("in_port(4)", "in_port(5)"),
        ];
        let masks = of(&dump.join("\n"), "in_port(4)");
        assert_eq!(masks.len(), 3, "{masks:?}");
    }
}
