//! Groups and meters in text: what OVS reads, what it says of the rest, and that both come back.

#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

use flow::text::{Mode, NoNames};
use openflow::Version;
use openflow::error::OfError;
use openflow::message::{Body, GroupCommand, GroupMod, Message, MeterCommand, Session};
use openflow::text::{GroupModText, MeterText, parse_group, parse_meter};

fn group(text: &str, command: GroupCommand) -> GroupMod {
    let parsed = parse_group(text, Some(command), &NoNames, Mode::Ovs);
    parsed.unwrap_or_else(|e| panic!("{e}: {text}")).group
}

/// Texts that survive: read, said in a version, heard, and written as OVS would.
#[test]
fn groups_survive() {
    use GroupCommand as C;
    for (version, command, text) in [
        (Version::Of10, C::Add, "group_id=1,type=all,bucket=bucket_id:0,actions=output:1"),
        (Version::Of11, C::Add, "group_id=4294967040,type=all"),
        (
            Version::Of13,
            C::Add,
            "group_id=2,type=ff,bucket=watch_port:1,watch_group:9,actions=output:1,group:9,\
             bucket=watch_group:3,actions=drop",
        ),
        (
            Version::Of15,
            C::Modify,
            "group_id=3,type=select,selection_method=hash,selection_method_param=7,\
             fields(eth_src,ip_dst=255.255.255.0),bucket=bucket_id:5,weight:0,actions=output:1,\
             bucket=bucket_id:4,watch_port:2,actions=dec_ttl,output:2",
        ),
        (
            Version::Of15,
            C::AddOrModify,
            "group_id=3,type=select,selection_method=hash,fields=tcp_dst,\
             bucket=bucket_id:0,actions=output:1",
        ),
        (Version::Of15, C::Add, "group_id=3,type=indirect,bucket=bucket_id:1,actions=output:1"),
    ] {
        let g = group(text, command);
        let m = Message::new(version, 1, Body::GroupMod(Box::new(g)));
        let bytes = m.encode(Session::default()).unwrap();
        let again = Message::decode(&bytes, Session::default()).unwrap();
        assert_eq!(again.encode(Session::default()).unwrap(), bytes, "{text}");
        let Body::GroupMod(group) = &again.body else { panic!("{again:?}") };
        let written = GroupModText { group, version, names: &NoNames }.to_string();
        assert_eq!(written.split_once(' ').map(|w| w.1), Some(text));
    }
}

#[test]
fn buckets_without_an_id_get_the_lowest_free_ones() {
    let text = "group_id=1,type=all,bucket=output:1,bucket=bucket_id:0,output:2,bucket=output:3";
    let g = group(text, GroupCommand::Add);
    let m = Message::new(Version::Of15, 1, Body::GroupMod(Box::new(g)));
    let bytes = m.encode(Session::default()).unwrap();
    let again = Message::decode(&bytes, Session::default()).unwrap();
    let Body::GroupMod(g) = again.body else { panic!() };
    assert_eq!(g.buckets.iter().map(|b| b.id).collect::<Vec<_>>(), [1, 0, 2]);
}

#[test]
fn meters_survive() {
    for text in [
        "meter=1 kbps bands=\ntype=drop rate=100\n",
        "meter=controller pktps burst stats bands=\ntype=drop rate=1 burst_size=2\n\
         type=dscp_remark rate=4294967295 burst_size=9 prec_level=3\n",
    ] {
        let m = parse_meter(text, MeterCommand::Add).unwrap();
        let m = Message::new(Version::Of13, 1, Body::MeterMod(Box::new(m)));
        let bytes = m.encode(Session::default()).unwrap();
        let Body::MeterMod(again) = Message::decode(&bytes, Session::default()).unwrap().body
        else {
            panic!()
        };
        assert_eq!(MeterText(&again.meter).to_string(), text);
    }
}

/// OVS's words for the errors are compared with the tool itself; here it is the place that counts.
#[test]
fn errors_say_where() {
    use GroupCommand as C;
    for (command, line, at) in [
        (C::Add, "group_id=1,type=frob", "frob"),
        (C::Add, "group_id=1,type=all,bucket=output:1,weight:70000", "70000"),
        (C::Add, "group_id=1,type=all,bucket=weight:7,output:1", "weight:7,output:1"),
        (C::Add, "group_id=1,type=all,bucket=frob:1", "frob"),
        (C::Add, "group_id=1,type=select,selection_method=hash,fields(ip_src,frob)", "frob"),
        (C::Add, "group_id=1,type=all,bucket=output:1,bucket=drop,output:2", "drop"),
        (C::Delete, "group_id=1,bucket=output:2", "bucket="),
        (C::InsertBucket, "group_id=1,command_bucket_id=all,bucket=output:1", "all"),
        (C::RemoveBucket, "group_id=1,type=all", "type"),
    ] {
        let e = parse_group(line, Some(command), &NoNames, Mode::Strict).unwrap_err();
        assert_eq!(&line[e.span.clone()], at, "{line}: {e}");
    }
    for (line, at) in [
        ("meter=0,kbps,band=type=drop,rate=1", "0"),
        ("meter=1,kbps,frob=2,band=type=drop,rate=1", "frob"),
        ("meter=1,kbps,band=type=drop,rate=x", "x"),
        ("meter=1,kbps,band=rate=1", "rate"),
    ] {
        let e = parse_meter(line, MeterCommand::Add).unwrap_err();
        assert_eq!(&line[e.span.clone()], at, "{line}: {e}");
    }
}

#[test]
fn a_group_that_cannot_be_meant_gets_its_error() {
    let decode = |version, command, text| {
        let m = group(text, command);
        let m = Message::new(version, 1, Body::GroupMod(Box::new(m)));
        let bytes = m.encode(Session::default()).unwrap();
        (bytes.clone(), Message::decode(&bytes, Session::default()).map_err(|e| e.error))
    };
    use GroupCommand as C;
    use OfError as E;
    for (version, command, text, error) in [
        (Version::Of13, C::Add, "group_id=1,type=indirect", E::OFPGMFC_INVALID_GROUP),
        (
            Version::Of13,
            C::Add,
            "group_id=1,type=all,bucket=watch_port:1,output:1",
            E::OFPGMFC_WATCH_UNSUPPORTED,
        ),
        (
            Version::Of15,
            C::Add,
            "group_id=1,type=all,bucket=bucket_id:1,drop,bucket=bucket_id:1,drop",
            E::OFPGMFC_BAD_BUCKET,
        ),
        (
            Version::Of15,
            C::Add,
            "group_id=1,type=all,selection_method=hash,bucket=output:1",
            E::OFPBPC_BAD_VALUE,
        ),
        (
            Version::Of10,
            C::Add,
            "group_id=1,type=select,selection_method=frob,bucket=output:1",
            E::OFPBPC_BAD_VALUE,
        ),
    ] {
        assert_eq!(decode(version, command, text).1, Err(error), "{text}");
    }
    // What no text says: wrong numbers in good messages.
    let good = "group_id=1,type=all,bucket=output:1";
    let (bytes, ok) = decode(Version::Of13, C::Add, good);
    assert!(ok.is_ok());
    for (at, value, error) in [
        (9, 9, E::OFPGMFC_BAD_COMMAND),
        (9, 5, E::OFPGMFC_BAD_COMMAND),
        (10, 4, E::OFPGMFC_BAD_TYPE),
        (17, 8, E::OFPGMFC_BAD_BUCKET),
        (17, 64, E::OFPGMFC_BAD_BUCKET),
        (20, 1, E::OFPGMFC_BAD_WATCH),
        (9, 2, E::OFPGMFC_INVALID_GROUP),
    ] {
        let mut bytes = bytes.clone();
        bytes[at] = value;
        let e = Message::decode(&bytes, Session::default()).unwrap_err();
        assert_eq!(e.error, error, "byte {at} = {value}");
    }
}
