//! What controllers change about tables as such.

use base::TableId;
use openflow::message::{TableMod, table_config};
use openflow::version::Version;

use super::Refusal;
use crate::bridge::Bridge;
use crate::limits::{EVICTION_FLAGS, TableMiss};
use crate::table::INTERNAL_TABLE;

/// Changes the configuration of a table, or of all that controllers see.
pub(super) fn configure(br: &mut Bridge, version: Version, t: &TableMod) -> Result<(), Refusal> {
    let tables = match t.table {
        TableId::ALL => 0..INTERNAL_TABLE.0,
        INTERNAL_TABLE => return Err(Refusal::TableModPermission),
        TableId(n) => n..n + 1,
    };
    // How to evict is the switch's business.
    if t.eviction_flags.is_some_and(|f| f != EVICTION_FLAGS) {
        return Err(Refusal::TableModBadConfig);
    }
    let miss = match (version < Version::Of13, t.config & table_config::MISS_MASK) {
        (false, _) => None,
        (true, 0) => Some(TableMiss::Controller),
        (true, 1) => Some(TableMiss::Continue),
        (true, 2) => Some(TableMiss::Drop),
        _ => return Err(Refusal::TableModBadConfig),
    };
    for table in tables {
        br.tables.configure(TableId(table), |c, n_flows| {
            c.miss = miss.or(c.miss);
            if version >= Version::Of14 {
                c.evict = t.config & table_config::EVICTION != 0;
                let vacancy = t.config & table_config::VACANCY_EVENTS != 0;
                c.set_vacancy(vacancy, t.vacancy.unwrap_or_default(), n_flows);
            }
        });
    }
    br.changed();
    Ok(())
}
