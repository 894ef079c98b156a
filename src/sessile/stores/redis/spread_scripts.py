"""The scripts of a cluster, where a session and its user's index lie on different servers.

A session that is about to be created is entered in the index first, as `+id` or `+id:replaced id`, with a deadline of
its own; then its record is written, and then the entry becomes the session's. A record may be prepared (kind P) and is
not alive yet. An end of all of a user's sessions that meets an entry without a record puts a barrier (kind K) where the
record would be: whoever is about to write it enters the index again first, and so comes after.

Replies begin with a number as in `scripts`, and  5 there is a barrier
"""

from __future__ import annotations

from typing import Final

from .scripts import TEXTS, Script

# KEYS index
# ARGV 1 entry  2 its deadline  3 now  4 limit or ''  5 ttl of the session  6... ids that do not count
_ENTER: Final = r"""
if ARGV[4] ~= '' then
  local ignored, reply = {}, {4}
  for i = 6, #ARGV do ignored[ARGV[i]] = true end
  for _, entry in ipairs(call('ZRANGE', KEYS[1], '(' .. ARGV[3], '+inf', 'BYSCORE')) do
    if entry ~= ARGV[1] and not ignored[string.match(entry, '%x+')] then reply[#reply + 1] = entry end
  end
  if #reply - 1 >= tonumber(ARGV[4]) then return reply end
end
call('ZADD', KEYS[1], ARGV[2], ARGV[1])
outlive(KEYS[1], tonumber(ARGV[5]))
return {1}
"""

# KEYS index
# ARGV 1 entry to remove or ''  2 entry to add or ''  3 its deadline  4 ttl of the session  5 '1': only if it is there
_ENTRY: Final = r"""
if ARGV[1] ~= '' then call('ZREM', KEYS[1], ARGV[1]) end
if ARGV[2] ~= '' then
  if ARGV[5] == '1' then call('ZADD', KEYS[1], 'XX', 'GT', ARGV[3], ARGV[2])
  else call('ZADD', KEYS[1], ARGV[3], ARGV[2]) end
  outlive(KEYS[1], tonumber(ARGV[4]))
end
return {1}
"""

# KEYS session, epoch
# ARGV 1 before the stamp  2 after it  3 ttl  4 a stamp in case there is none  5 kind  6 '1': over a barrier as well
_PUT: Final = r"""
local kind = sub(head(KEYS[1]), 1, 2)
if kind == '\1K' and ARGV[6] ~= '1' then return {5} end
if kind ~= '' and kind ~= '\1K' then return {3} end
local epoch = call('GET', KEYS[2])
local stamp = epoch and sub(epoch, 1, 8) or ARGV[4]
call('SET', KEYS[1], '\1' .. ARGV[5] .. sub(ARGV[1], 3) .. stamp .. ARGV[2], 'PX', ARGV[3])
if not epoch then call('SET', KEYS[2], stamp) end
return {1}
"""

# KEYS session
# ARGV 1 ttl, or '' to take it back
_PUBLISH: Final = r"""
local kind = sub(head(KEYS[1]), 1, 2)
if kind == '\1K' then return {5} end
if kind ~= '\1P' then return {0} end
if ARGV[1] == '' then call('DEL', KEYS[1]) return {1} end
call('PEXPIRE', KEYS[1], ARGV[1])
call('SETRANGE', KEYS[1], 1, 'R')
return {1}
"""

# KEYS session, epoch
# ARGV 1 tombstone  2 its ttl  3 barrier  4 its ttl  5 '1': what is prepared was alive already
_KILL: Final = r"""
local h, epoch = head(KEYS[1]), call('GET', KEYS[2])
local kind = sub(h, 1, 2)
local prepared = kind == '\1P' and #h == 54
if living(h, epoch) or (prepared and ARGV[5] == '1') then
  local control = control_of(KEYS[1], h)
  entomb(KEYS[1], ARGV[1], ARGV[2])
  return {1, sub(h, 35, 50), control}
end
if prepared or kind == '' or kind == '\1K' then call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4]) end
return {0}
"""

ENTER: Final = Script(_ENTER)
ENTRY: Final = Script(_ENTRY)
PUT: Final = Script(_PUT)
PUBLISH: Final = Script(_PUBLISH)
KILL: Final = Script(_KILL)
TEXTS.update({script.digest: script.text for script in (ENTER, ENTRY, PUT, PUBLISH, KILL)})
