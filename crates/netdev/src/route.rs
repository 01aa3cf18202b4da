//! The host's way to an IPv4 address: its routes and its neighbours, as the kernel tells them.

use std::net::Ipv4Addr;

use base::MacAddr;

/// The host has no route to the address.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Network is unreachable")]
pub struct NoRoute;

/// Address of the next hop on the way to `to`; `None` while no ARP reply has told it.
///
/// # Errors
/// There is no way.
pub fn next_hop(to: Ipv4Addr) -> Result<Option<MacAddr>, NoRoute> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let (device, gateway) = route(&read("/proc/net/route"), to).ok_or(NoRoute)?;
    Ok(neighbour(&read("/proc/net/arp"), gateway.unwrap_or(to), &device))
}

/// Device and gateway of the best route in the text of `/proc/net/route`: the longest prefix, then the
/// lowest metric.
fn route(table: &str, to: Ipv4Addr) -> Option<(String, Option<Ipv4Addr>)> {
    const UP: u16 = 1;
    const REJECT: u16 = 0x200;
    let address =
        |hex: &str| u32::from_str_radix(hex, 16).ok().map(|n| Ipv4Addr::from(n.to_ne_bytes()));
    let rows = table.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [device, destination, gateway, flags, _, _, metric, mask, ..] = words[..] else {
            return None;
        };
        let flags = u16::from_str_radix(flags, 16).ok()?;
        let (destination, mask) = (address(destination)?, address(mask)?);
        let matches = to & mask == destination && flags & UP != 0;
        let metric: u32 = metric.parse().ok()?;
        let gateway = address(gateway).filter(|g| !g.is_unspecified());
        matches.then_some((mask.to_bits(), u32::MAX - metric, (device, gateway, flags)))
    });
    let (_, _, (device, gateway, flags)) = rows.max_by_key(|row| (row.0, row.1))?;
    (flags & REJECT == 0).then(|| (device.to_owned(), gateway))
}

/// The address of a neighbour in the text of `/proc/net/arp`.
fn neighbour(table: &str, of: Ipv4Addr, on: &str) -> Option<MacAddr> {
    const COMPLETE: u16 = 2;
    table.lines().skip(1).find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [ip, _, flags, mac, _, device, ..] = words[..] else { return None };
        let flags = u16::from_str_radix(flags.strip_prefix("0x")?, 16).ok()?;
        let is_it = ip.parse() == Ok(of) && device == on && flags & COMPLETE != 0;
        mac.parse().ok().filter(|_| is_it)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel writes addresses as numbers of its own byte order.
    fn hex(ip: [u8; 4]) -> String {
        format!("{:08X}", u32::from_ne_bytes(ip))
    }

    #[test]
    fn the_longest_prefix_and_then_the_lowest_metric_lead_on() {
        let row = |dev: &str, to, via, flags: &str, metric: u32, mask| {
            let (to, via, mask) = (hex(to), hex(via), hex(mask));
            format!("{dev}\t{to}\t{via}\t{flags}\t0\t0\t{metric}\t{mask}\t0\t0\t0\n")
        };
        let text = [
            "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
                .into(),
            row("eth0", [0; 4], [192, 0, 2, 1], "0003", 100, [0; 4]),
            row("eth1", [0; 4], [198, 51, 100, 1], "0003", 50, [0; 4]),
            row("br0", [10, 1, 0, 0], [0; 4], "0001", 0, [255, 255, 0, 0]),
            row("lo", [10, 1, 2, 0], [0; 4], "0200", 0, [255, 255, 255, 0]),
            row("lo", [10, 1, 3, 0], [0; 4], "0201", 0, [255, 255, 255, 0]),
        ]
        .concat();
        let ask = |ip: [u8; 4]| route(&text, ip.into());
        let gateway = Some(Ipv4Addr::new(198, 51, 100, 1));
        assert_eq!(ask([8, 8, 8, 8]), Some(("eth1".into(), gateway)));
        assert_eq!(ask([10, 1, 9, 9]), Some(("br0".into(), None)));
        assert_eq!(ask([10, 1, 2, 3]), Some(("br0".into(), None)), "that route is down");
        assert_eq!(ask([10, 1, 3, 3]), None, "that one refuses");
        assert_eq!(route("", Ipv4Addr::LOCALHOST), None);
    }

    #[test]
    fn a_neighbour_is_known_on_its_device_once_it_answered() {
        let text = "IP address       HW type     Flags       HW address            Mask     Device\n\
                    192.0.2.1        0x1         0x2         02:fc:00:00:00:05     *        eth0\n\
                    192.0.2.2        0x1         0x0         00:00:00:00:00:00     *        eth0\n";
        let mac = MacAddr([2, 0xfc, 0, 0, 0, 5]);
        assert_eq!(neighbour(text, Ipv4Addr::new(192, 0, 2, 1), "eth0"), Some(mac));
        assert_eq!(neighbour(text, Ipv4Addr::new(192, 0, 2, 1), "eth1"), None);
        assert_eq!(neighbour(text, Ipv4Addr::new(192, 0, 2, 2), "eth0"), None);
    }
}
