//! Connections as conntrack-tools print them: one line, or one XML element.

use std::fmt::Write;

use switchd::ctl::conntrack::{
    ConnCounters, ConnEvent, ConnEventKind, ConnRecord, ConnTuple, Family, L4,
};

/// Layer 4 protocols: number and the name that is printed.
const PROTOCOLS: &[(u8, &str)] = &[
    (1, "icmp"),
    (6, "tcp"),
    (17, "udp"),
    (33, "dccp"),
    (47, "gre"),
    (58, "icmpv6"),
    (132, "sctp"),
    (136, "udplite"),
];

/// Name of a protocol number.
pub fn protocol_name(number: u8) -> &'static str {
    PROTOCOLS.iter().find(|p| p.0 == number).map_or("unknown", |p| p.1)
}

/// Number of a protocol given by name (in any case) or by number.
pub fn protocol_number(text: &str) -> Option<u8> {
    let by_name = PROTOCOLS.iter().find(|p| p.1.eq_ignore_ascii_case(text)).map(|p| p.0);
    by_name.or_else(|| text.parse().ok())
}

/// `-o`: what is printed beyond the plain line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Output {
    /// `extended`: the layer 3 protocol first.
    pub extended: bool,
    /// `id`: the connection's number last.
    pub id: bool,
    /// `timestamp`: the time of an event first.
    pub timestamp: bool,
    /// `labels`: the connection's labels, where it has any.
    pub labels: bool,
    /// `xml`: XML elements instead of lines.
    pub xml: bool,
}

/// What opens an XML document.
pub const XML_HEAD: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<conntrack>\n";
/// What closes it.
pub const XML_TAIL: &str = "</conntrack>\n";

/// A connection of the table.
pub fn record(c: &ConnRecord, output: Output) -> String {
    if output.xml { xml(c, None) } else { line(c, output, false, true) }
}

/// An event.
pub fn event(e: &ConnEvent, output: Output) -> String {
    let (word, xml_type) = match e.kind {
        ConnEventKind::New => ("    [NEW] ", "new"),
        ConnEventKind::Update => (" [UPDATE] ", "update"),
        ConnEventKind::Destroy => ("[DESTROY] ", "destroy"),
    };
    if output.xml {
        return xml(&e.record, Some(xml_type));
    }
    let mut text = String::new();
    if output.timestamp {
        let _ = write!(text, "[{}.{:06}]\t", e.time_us / 1_000_000, e.time_us % 1_000_000);
    }
    text += word;
    text += &line(&e.record, output, e.kind == ConnEventKind::Destroy, false);
    text
}

/// One line. A destroyed connection's timeout is shown only if it was not up; an entry of the table
/// (not of an event) always shows its mark and its use count.
fn line(c: &ConnRecord, output: Output, destroyed: bool, table: bool) -> String {
    let mut t = String::new();
    if output.extended {
        let _ = write!(t, "{:<8} {} ", c.family().name(), c.family().number());
    }
    let _ = write!(t, "{:<8} {} ", protocol_name(c.proto), c.proto);
    if !destroyed || c.timeout != 0 {
        let _ = write!(t, "{} ", c.timeout);
    }
    if let Some(state) = &c.state {
        let _ = write!(t, "{state} ");
    }
    tuple(&mut t, c.orig, c.orig_counters);
    if !c.seen_reply {
        t += "[UNREPLIED] ";
    }
    tuple(&mut t, c.reply, c.reply_counters);
    if c.assured {
        t += "[ASSURED] ";
    }
    if table || c.mark != 0 {
        let _ = write!(t, "mark={} ", c.mark);
    }
    if c.zone != 0 {
        let _ = write!(t, "zone={} ", c.zone);
    }
    if let Some(helper) = &c.helper {
        let _ = write!(t, "helper={helper} ");
    }
    if table {
        t += "use=1 ";
    }
    if output.id {
        let _ = write!(t, "id={} ", c.id);
    }
    if output.labels && c.labels != 0 {
        let _ = write!(t, "labels={:#x} ", c.labels);
    }
    t.truncate(t.trim_end().len());
    t
}

fn tuple(t: &mut String, tuple: ConnTuple, counters: Option<ConnCounters>) {
    let _ = write!(t, "src={} dst={} ", tuple.src, tuple.dst);
    let _ = match tuple.l4 {
        L4::None => Ok(()),
        L4::Ports { sport, dport } => write!(t, "sport={sport} dport={dport} "),
        L4::Icmp { ty, code, id } => write!(t, "type={ty} code={code} id={id} "),
    };
    if let Some(n) = counters {
        let _ = write!(t, "packets={} bytes={} ", n.packets, n.bytes);
    }
}

/// One `<flow>` element; `event` is its `type` attribute.
fn xml(c: &ConnRecord, event: Option<&str>) -> String {
    let mut t = match event {
        Some(event) => format!("<flow type=\"{event}\">"),
        None => "<flow>".to_owned(),
    };
    xml_tuple(&mut t, "original", c.family(), c.proto, c.orig, c.orig_counters);
    xml_tuple(&mut t, "reply", c.family(), c.proto, c.reply, c.reply_counters);
    t += "<meta direction=\"independent\">";
    if let Some(state) = &c.state {
        let _ = write!(t, "<state>{state}</state>");
    }
    if event != Some("destroy") || c.timeout != 0 {
        let _ = write!(t, "<timeout>{}</timeout>", c.timeout);
    }
    if event.is_none() || c.mark != 0 {
        let _ = write!(t, "<mark>{}</mark>", c.mark);
    }
    if c.zone != 0 {
        let _ = write!(t, "<zone>{}</zone>", c.zone);
    }
    if event.is_none() {
        t += "<use>1</use>";
    }
    let _ = write!(t, "<id>{}</id>", c.id);
    if c.assured {
        t += "<assured/>";
    }
    if !c.seen_reply {
        t += "<unreplied/>";
    }
    t += "</meta></flow>";
    t
}

fn xml_tuple(
    t: &mut String,
    direction: &str,
    family: Family,
    proto: u8,
    tuple: ConnTuple,
    counters: Option<ConnCounters>,
) {
    let _ = write!(
        t,
        "<meta direction=\"{direction}\"><layer3 protonum=\"{}\" protoname=\"{}\">\
         <src>{}</src><dst>{}</dst></layer3><layer4 protonum=\"{proto}\" protoname=\"{}\">",
        family.number(),
        family.name(),
        tuple.src,
        tuple.dst,
        protocol_name(proto),
    );
    if let L4::Ports { sport, dport } = tuple.l4 {
        let _ = write!(t, "<sport>{sport}</sport><dport>{dport}</dport>");
    }
    t.push_str("</layer4>");
    if let Some(n) = counters {
        let _ = write!(
            t,
            "<counters><packets>{}</packets><bytes>{}</bytes></counters>",
            n.packets, n.bytes
        );
    }
    t.push_str("</meta>");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(
        proto: u8,
        timeout: u32,
        state: &str,
        flags: (bool, bool),
        id: u32,
        l4: (L4, L4),
    ) -> ConnRecord {
        let (a, b) = ("192.168.0.1".parse().unwrap(), "192.168.0.2".parse().unwrap());
        ConnRecord {
            proto,
            orig: ConnTuple { src: a, dst: b, l4: l4.0 },
            reply: ConnTuple { src: b, dst: a, l4: l4.1 },
            state: (!state.is_empty()).then(|| state.to_owned()),
            state_orig: None,
            state_reply: None,
            timeout,
            orig_counters: None,
            reply_counters: None,
            mark: 0,
            labels: 0,
            zone: 0,
            seen_reply: flags.0,
            assured: flags.1,
            id,
            helper: None,
        }
    }

    fn both(sport: u16, dport: u16) -> (L4, L4) {
        (L4::Ports { sport, dport }, L4::Ports { sport: dport, dport: sport })
    }

    fn ping(id: u16) -> (L4, L4) {
        (L4::Icmp { ty: 8, code: 0, id }, L4::Icmp { ty: 0, code: 0, id })
    }

    fn text(c: &ConnRecord) -> String {
        record(c, Output::default())
    }

    const ALL: Output =
        Output { extended: true, id: true, timestamp: true, labels: true, xml: false };

    #[test]
    fn lines_as_linux_prints_them() {
        let udp = conn(17, 28, "", (false, false), 1, both(38118, 53));
        assert_eq!(
            text(&udp),
            "udp      17 28 src=192.168.0.1 dst=192.168.0.2 sport=38118 dport=53 [UNREPLIED] \
             src=192.168.0.2 dst=192.168.0.1 sport=53 dport=38118 mark=0 use=1"
        );
        let tcp = conn(6, 105, "TIME_WAIT", (true, true), 2, both(48265, 22));
        assert_eq!(
            text(&tcp),
            "tcp      6 105 TIME_WAIT src=192.168.0.1 dst=192.168.0.2 sport=48265 dport=22 \
             src=192.168.0.2 dst=192.168.0.1 sport=22 dport=48265 [ASSURED] mark=0 use=1"
        );
        let icmp = conn(1, 4, "", (false, false), 3, ping(52997));
        assert_eq!(
            text(&icmp),
            "icmp     1 4 src=192.168.0.1 dst=192.168.0.2 type=8 code=0 id=52997 [UNREPLIED] \
             src=192.168.0.2 dst=192.168.0.1 type=0 code=0 id=52997 mark=0 use=1"
        );
        let live = conn(6, 431_998, "ESTABLISHED", (true, true), 3_064_940_672, both(13310, 23));
        assert_eq!(
            record(&live, ALL),
            "ipv4     2 tcp      6 431998 ESTABLISHED src=192.168.0.1 dst=192.168.0.2 sport=13310 \
             dport=23 src=192.168.0.2 dst=192.168.0.1 sport=23 dport=13310 [ASSURED] mark=0 use=1 \
             id=3064940672"
        );
        let mut other = conn(99, 99, "", (false, false), 4, (L4::None, L4::None));
        other.zone = 7;
        assert_eq!(
            text(&other),
            "unknown  99 99 src=192.168.0.1 dst=192.168.0.2 [UNREPLIED] src=192.168.0.2 \
             dst=192.168.0.1 mark=0 zone=7 use=1"
        );
    }

    #[test]
    fn optional_parts() {
        let mut c = conn(17, 30, "", (true, false), 5, both(1, 2));
        c.orig_counters = Some(ConnCounters { packets: 3, bytes: 180 });
        c.reply_counters = Some(ConnCounters { packets: 2, bytes: 90 });
        (c.mark, c.zone, c.labels, c.helper) = (42, 5, 0x1f, Some("tftp".into()));
        assert_eq!(
            record(&c, Output { labels: true, ..Output::default() }),
            "udp      17 30 src=192.168.0.1 dst=192.168.0.2 sport=1 dport=2 packets=3 bytes=180 \
             src=192.168.0.2 dst=192.168.0.1 sport=2 dport=1 packets=2 bytes=90 mark=42 zone=5 \
             helper=tftp use=1 labels=0x1f"
        );
    }

    #[test]
    fn ipv6_extended() {
        let mut c = conn(58, 29, "", (true, false), 6, ping(7));
        (c.orig.src, c.orig.dst) = ("fe80::1".parse().unwrap(), "fe80::2".parse().unwrap());
        assert!(
            record(&c, Output { extended: true, ..Output::default() })
                .starts_with("ipv6     10 icmpv6   58 29 src=fe80::1 dst=fe80::2 type=8 ")
        );
    }

    #[test]
    fn events() {
        let c = conn(6, 120, "SYN_SENT", (false, false), 7, both(1000, 22));
        let mut e =
            ConnEvent { kind: ConnEventKind::New, time_us: 1_795_459_217_041_601, record: c };
        assert_eq!(
            event(&e, Output::default()),
            "    [NEW] tcp      6 120 SYN_SENT src=192.168.0.1 dst=192.168.0.2 sport=1000 dport=22 \
             [UNREPLIED] src=192.168.0.2 dst=192.168.0.1 sport=22 dport=1000"
        );
        assert_eq!(
            event(&e, ALL),
            "[1795459217.041601]\t    [NEW] ipv4     2 tcp      6 120 SYN_SENT src=192.168.0.1 \
             dst=192.168.0.2 sport=1000 dport=22 [UNREPLIED] src=192.168.0.2 dst=192.168.0.1 \
             sport=22 dport=1000 id=7"
        );
        e.kind = ConnEventKind::Update;
        e.record.mark = 3;
        assert!(event(&e, Output::default()).starts_with(" [UPDATE] tcp      6 120 SYN_SENT "));
        assert!(event(&e, Output::default()).ends_with(" dport=1000 mark=3"));
        e.kind = ConnEventKind::Destroy;
        e.record.timeout = 0;
        assert!(event(&e, Output::default()).starts_with("[DESTROY] tcp      6 SYN_SENT src="));
        let xml = event(&e, Output { xml: true, ..ALL });
        assert!(xml.starts_with("<flow type=\"destroy\"><meta direction=\"original\">"));
        assert!(!xml.contains("<timeout>") && !xml.contains("<use>"));
    }

    #[test]
    fn xml_as_linux_prints_it() {
        let tcp = conn(6, 112, "TIME_WAIT", (true, true), 2_698_238_381, both(13298, 23));
        assert_eq!(
            record(&tcp, Output { xml: true, ..Output::default() }),
            "<flow><meta direction=\"original\"><layer3 protonum=\"2\" protoname=\"ipv4\">\
             <src>192.168.0.1</src><dst>192.168.0.2</dst></layer3><layer4 protonum=\"6\" \
             protoname=\"tcp\"><sport>13298</sport><dport>23</dport></layer4></meta><meta \
             direction=\"reply\"><layer3 protonum=\"2\" protoname=\"ipv4\"><src>192.168.0.2</src>\
             <dst>192.168.0.1</dst></layer3><layer4 protonum=\"6\" protoname=\"tcp\"><sport>23\
             </sport><dport>13298</dport></layer4></meta><meta direction=\"independent\"><state>\
             TIME_WAIT</state><timeout>112</timeout><mark>0</mark><use>1</use><id>2698238381</id>\
             <assured/></meta></flow>"
        );
        let icmp = conn(1, 29, "", (true, false), 1_669_114_550, ping(14088));
        assert!(record(&icmp, Output { xml: true, ..Output::default() }).ends_with(
            "<layer4 protonum=\"1\" protoname=\"icmp\"></layer4></meta><meta \
             direction=\"independent\"><timeout>29</timeout><mark>0</mark><use>1</use>\
             <id>1669114550</id></meta></flow>"
        ));
    }

    #[test]
    fn protocols() {
        assert_eq!(protocol_number("TCP"), Some(6));
        assert_eq!(protocol_number("6"), Some(6));
        assert_eq!(protocol_number("bogus"), None);
        assert_eq!(protocol_number("256"), None);
        for (number, name) in PROTOCOLS {
            assert_eq!(protocol_number(name), Some(*number));
            assert_eq!(protocol_name(*number), *name);
        }
    }
}
