//! Bytes written in hexadecimal, as commands take packets.

/// The bytes; white space between digits does not count. `None` if there is anything else, or half
/// a byte.
pub fn parse(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 2);
    let mut digits = text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16));
    while let Some(high) = digits.next() {
        bytes.push((high? << 4 | digits.next()??) as u8);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn digits_in_pairs() {
        assert_eq!(parse("00ff 1A"), Some(vec![0, 255, 26]));
        assert_eq!((parse("0"), parse("zz"), parse("")), (None, None, Some(vec![])));
    }
}
