//! One direction of a link between two places: what it does to a packet. Pure: the clock and chance are arguments.

/// What a direction of a link does to packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Link {
    /// Time on the way, in microseconds.
    pub delay_us: u64,
    /// At most so much is added to each packet by chance, in microseconds: packets may overtake each other.
    pub jitter_us: u64,
    /// Packets lost of a thousand.
    pub loss_per_mille: u32,
    /// Bits per second; 0: as fast as they come.
    pub rate_bps: u64,
    /// Nothing passes.
    pub cut: bool,
    /// Nothing of the control plane passes.
    pub control_cut: bool,
}

/// Packets that wait for a slow link: longer in time than this, and they are dropped, as a router's buffer does.
const QUEUE_US_MAX: u64 = 500_000;
/// Ports of the control plane: control servers, and etcd for clients and members.
const CONTROL_PORTS: [u16; 3] = [7000, 2379, 2380];

/// A direction of a link in use.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lane {
    /// What it does now.
    pub link: Link,
    /// When it has sent what it was given so far.
    free_at_us: u64,
}

/// Two draws of chance for one packet.
#[derive(Debug, Clone, Copy)]
pub struct Chance {
    /// 0 to 999.
    pub loss: u32,
    /// 0 to 1 000 000.
    pub jitter: u64,
}

impl Lane {
    /// When a packet arrives, or `None` if it never does.
    pub fn arrival_us(&mut self, now_us: u64, packet: &[u8], chance: Chance) -> Option<u64> {
        let link = self.link;
        if link.cut || link.control_cut && is_of_control_plane(packet) || chance.loss < link.loss_per_mille {
            return None;
        }
        let mut sent_us = now_us;
        if link.rate_bps > 0 {
            let begins_us = self.free_at_us.max(now_us);
            if begins_us - now_us > QUEUE_US_MAX {
                return None;
            }
            let bits = u64::try_from(packet.len()).unwrap_or(u64::MAX).saturating_mul(8);
            sent_us = begins_us + bits.saturating_mul(1_000_000).div_euclid(link.rate_bps);
            self.free_at_us = sent_us;
        }
        Some(sent_us + link.delay_us + link.jitter_us * chance.jitter / 1_000_000)
    }
}

/// Destination of an IPv4 packet.
pub fn destination(packet: &[u8]) -> Option<[u8; 4]> {
    (packet.first()? >> 4 == 4).then_some(())?;
    packet.get(16..20)?.try_into().ok()
}

/// True for a TCP packet from or to one of its ports. The last fragments of a packet have no ports; TCP makes none.
fn is_of_control_plane(packet: &[u8]) -> bool {
    const TCP: u8 = 6;
    let ports = || {
        let header = usize::from(packet.first()? & 0x0f) * 4;
        (*packet.get(9)? == TCP).then_some(())?;
        let port = |at: usize| Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?));
        Some([port(header)?, port(header + 2)?])
    };
    ports().is_some_and(|ports| ports.iter().any(|port| CONTROL_PORTS.contains(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Chance = Chance { loss: 999, jitter: 0 };

    fn tcp(from: u16, to: u16) -> Vec<u8> {
        let mut packet = vec![0; 40];
        packet[0] = 0x45;
        packet[9] = 6;
        packet[16..20].copy_from_slice(&[10, 77, 12, 1]);
        packet[20..22].copy_from_slice(&from.to_be_bytes());
        packet[22..24].copy_from_slice(&to.to_be_bytes());
        packet
    }

    fn lane(link: Link) -> Lane {
        Lane { link, free_at_us: 0 }
    }

    #[test]
    fn a_packet_takes_its_time_and_some_chance() {
        let mut lane = lane(Link { delay_us: 12_000, jitter_us: 200_000, ..Link::default() });
        assert_eq!(lane.arrival_us(5, &tcp(1, 2), CALM), Some(12_005));
        let worst = Chance { loss: 999, jitter: 1_000_000 };
        assert_eq!(lane.arrival_us(5, &tcp(1, 2), worst), Some(212_005));
    }

    #[test]
    fn what_is_cut_or_lost_never_arrives() {
        let cut = Link { cut: true, ..Link::default() };
        assert_eq!(lane(cut).arrival_us(0, &tcp(1, 2), CALM), None);
        let lossy = Link { loss_per_mille: 200, ..Link::default() };
        assert_eq!(lane(lossy).arrival_us(0, &tcp(1, 2), Chance { loss: 199, jitter: 0 }), None);
        assert_eq!(lane(lossy).arrival_us(0, &tcp(1, 2), Chance { loss: 200, jitter: 0 }), Some(0));
    }

    #[test]
    fn the_control_plane_alone_can_be_cut() {
        let mut lane = lane(Link { control_cut: true, ..Link::default() });
        assert_eq!(lane.arrival_us(0, &tcp(40_000, 7000), CALM), None);
        assert_eq!(lane.arrival_us(0, &tcp(2380, 40_000), CALM), None);
        assert_eq!(lane.arrival_us(0, &tcp(5401, 40_000), CALM), Some(0));
        assert_eq!(lane.arrival_us(0, &[], CALM), Some(0), "garbage has no ports");
    }

    #[test]
    fn a_slow_link_sends_one_after_the_other_and_drops_what_waits_too_long() {
        let mut lane = lane(Link { rate_bps: 3_200, ..Link::default() });
        let packet = tcp(1, 2);
        assert_eq!(lane.arrival_us(0, &packet, CALM), Some(100_000));
        assert_eq!(lane.arrival_us(0, &packet, CALM), Some(200_000));
        for _ in 0..4 {
            lane.arrival_us(0, &packet, CALM);
        }
        assert_eq!(lane.arrival_us(0, &packet, CALM), None);
        assert_eq!(lane.arrival_us(600_000, &packet, CALM), Some(700_000));
    }

    #[test]
    fn where_a_packet_goes_is_read_from_it() {
        assert_eq!(destination(&tcp(1, 2)), Some([10, 77, 12, 1]));
        assert_eq!(destination(&[0x60; 40]), None);
        assert_eq!(destination(&[0x45; 12]), None);
    }
}
