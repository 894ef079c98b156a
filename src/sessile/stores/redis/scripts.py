"""The Lua that runs inside Redis: one script a write, so that each is atomic.

A script reads headers as `layout` describes them. `prefix` is empty on a cluster: there the user's index lies on
another node, and a script leaves it to its caller. A script that ends a session deletes before it writes, because Redis
lets a script whose first write frees memory go on when memory is full: a sign-out must work then.

Replies begin with a number:  0 not alive   1 done   2 it changed since it was read   3 the id is taken   4 at the limit
"""

from __future__ import annotations

import hashlib
from typing import Final

_COMMON: Final = r"""
local call, sub = redis.call, string.sub
local function hex(raw) return (string.gsub(raw, '.', function(c) return string.format('%02x', string.byte(c)) end)) end
local function head(key) return call('GETRANGE', key, 0, 53) end
local function living(h, epoch)
  return epoch and #h == 54 and sub(h, 1, 2) == '\1R' and sub(h, 27, 34) == sub(epoch, 1, 8)
end
-- As numbers: Lua compares strings by the server's locale.
local function seconds(time) return (struct.unpack('>d', time)) end
local function later(a, b) if seconds(a) > seconds(b) then return a end return b end
local nobody = string.rep('\0', 16)
local function index_of(prefix, owner)
  local digits = hex(owner)
  return prefix .. '{' .. sub(digits, 1, 2) .. '}u' .. sub(digits, 3)
end
local function session_of(prefix, sid) return prefix .. '{' .. sub(sid, 1, 2) .. '}s' .. sub(sid, 3) end
local function epoch_of(prefix, sid) return prefix .. '{' .. sub(sid, 1, 2) .. '}e' end
local function number(time) return string.format('%.17g', seconds(time)) end
local function leave(prefix, owner, sid)
  if prefix ~= '' and owner ~= nobody then call('ZREM', index_of(prefix, owner), sid) end
end
local function outlive(index, ttl)
  ttl = ttl + 86400000
  if call('PTTL', index) < ttl then call('PEXPIRE', index, ttl) end
end
local function enter(prefix, owner, sid, expires, ttl, only)
  if prefix == '' or owner == nobody then return end
  local index = index_of(prefix, owner)
  if only then call('ZADD', index, 'XX', 'GT', number(expires), sid)
  else call('ZADD', index, number(expires), sid) end
  outlive(index, ttl)
end
local function of_user(prefix, owner)
  local index, epochs, found = index_of(prefix, owner), {}, {}
  for _, sid in ipairs(call('ZRANGE', index, 0, -1)) do
    local key, bucket = session_of(prefix, sid), sub(sid, 1, 2)
    -- A key that somebody else has put there is no session, and must not keep the others alive.
    local h = redis.pcall('GETRANGE', key, 0, 53)
    if type(h) ~= 'string' then h = '' end
    if epochs[bucket] == nil then epochs[bucket] = call('GET', epoch_of(prefix, sid)) end
    if living(h, epochs[bucket]) and sub(h, 35, 50) == owner then
      found[#found + 1] = {sid, key, h, epochs[bucket]}
    else
      call('ZREM', index, sid)
    end
  end
  return found
end
local function entomb(key, tombstone, ttl)
  call('DEL', key)
  call('SET', key, tombstone, 'PX', ttl)
end
local function control_of(key, h)
  return call('GETRANGE', key, 54, 53 + struct.unpack('>I4', sub(h, 51, 54)))
end
"""

# KEYS session, epoch [, replaced session, its epoch]
# ARGV 1 before the stamp  2 after it  3 ttl  4 a stamp in case there is none  5 id  6 prefix  7 limit or ''
#      [8 replaced id  9 its mark  10 tombstone  11 its ttl  12 '1' if it is required]
_CREATE: Final = r"""
if call('EXISTS', KEYS[1]) == 1 then return {3} end
local prefix, owner = ARGV[6], sub(ARGV[2], 1, 16)
local old
if KEYS[3] then
  local h, epoch = head(KEYS[3]), call('GET', KEYS[4])
  if living(h, epoch) then
    if sub(h, 19, 26) ~= ARGV[9] then return {2, call('GET', KEYS[3]), epoch} end
    old = h
  elseif ARGV[12] == '1' then
    return {0, call('GET', KEYS[3]), epoch}
  end
end
if ARGV[7] ~= '' and owner ~= nobody then
  local others = {}
  for _, entry in ipairs(of_user(prefix, owner)) do
    local lives = seconds(sub(entry[3], 11, 18)) > seconds(sub(ARGV[1], 3, 10))
    if lives and entry[1] ~= ARGV[8] then others[#others + 1] = entry end
  end
  if #others >= tonumber(ARGV[7]) then
    local reply = {4}
    for _, entry in ipairs(others) do
      reply[#reply + 1] = entry[1]
      reply[#reply + 1] = call('GET', entry[2])
      reply[#reply + 1] = entry[4]
    end
    return reply
  end
end
local epoch = call('GET', KEYS[2])
local stamp = epoch and sub(epoch, 1, 8) or ARGV[4]
call('SET', KEYS[1], ARGV[1] .. stamp .. ARGV[2], 'PX', ARGV[3])
if not epoch then call('SET', KEYS[2], stamp) end
enter(prefix, owner, ARGV[5], sub(ARGV[1], 11, 18), tonumber(ARGV[3]))
if old then
  entomb(KEYS[3], ARGV[10], ARGV[11])
  leave(prefix, sub(old, 35, 50), ARGV[8])
end
return {1}
"""

# KEYS session, epoch
# ARGV 1 mark of the base  2 before the stamp  3 after it  4 ttl  5 id  6 prefix
_SAVE: Final = r"""
local h, epoch = head(KEYS[1]), call('GET', KEYS[2])
if not living(h, epoch) then return {0, call('GET', KEYS[1]), epoch} end
if sub(h, 19, 26) ~= ARGV[1] then return {2, call('GET', KEYS[1]), epoch} end
local seen, expires = later(sub(h, 3, 10), sub(ARGV[2], 3, 10)), later(sub(h, 11, 18), sub(ARGV[2], 11, 18))
local ttl = math.max(tonumber(ARGV[4]), call('PTTL', KEYS[1]))
local before, after = sub(h, 35, 50), sub(ARGV[3], 1, 16)
call('SET', KEYS[1], '\1R' .. seen .. expires .. sub(ARGV[2], 19, 26) .. sub(h, 27, 34) .. ARGV[3], 'PX', ttl)
if before ~= after then
  leave(ARGV[6], before, ARGV[5])
  enter(ARGV[6], after, ARGV[5], expires, ttl)
elseif expires ~= sub(h, 11, 18) then
  enter(ARGV[6], after, ARGV[5], expires, ttl, true)
end
return {1, seen, expires, before}
"""

# KEYS session, epoch
# ARGV 1 seen at  2 expires at  3 ttl  4 id  5 prefix
# The expiry moves first: a script that has written may go on when memory is full.
_TOUCH: Final = r"""
local h, epoch = head(KEYS[1]), call('GET', KEYS[2])
if not living(h, epoch) then return {0} end
local seen, expires = later(sub(h, 3, 10), ARGV[1]), later(sub(h, 11, 18), ARGV[2])
if seen .. expires == sub(h, 3, 18) then return {0} end
local ttl = tonumber(ARGV[3])
call('PEXPIRE', KEYS[1], ttl, 'GT')
call('SETRANGE', KEYS[1], 2, seen .. expires)
if expires ~= sub(h, 11, 18) then enter(ARGV[5], sub(h, 35, 50), ARGV[4], expires, ttl, true) end
return {1, sub(h, 35, 50), expires, sub(h, 11, 18)}
"""

# KEYS session, epoch
# ARGV 1 tombstone  2 its ttl  3 the mark it must have, or ''  4 id  5 prefix
_END: Final = r"""
local h, epoch = head(KEYS[1]), call('GET', KEYS[2])
if not living(h, epoch) then
  local kind = sub(h, 1, 2)
  local known = kind == '\1T' or kind == '\1P' or kind == '\1K' or (kind == '\1R' and #h == 54)
  if #h > 0 and not known then -- nothing that anybody can read
    entomb(KEYS[1], ARGV[1], ARGV[2])
    return {1, nobody, ''}
  end
  if ARGV[3] ~= '' then return {0, call('GET', KEYS[1]), epoch} end
  return {0}
end
if ARGV[3] ~= '' and sub(h, 19, 26) ~= ARGV[3] then return {2, call('GET', KEYS[1]), epoch} end
local control = control_of(KEYS[1], h)
entomb(KEYS[1], ARGV[1], ARGV[2])
leave(ARGV[5], sub(h, 35, 50), ARGV[4])
return {1, sub(h, 35, 50), control}
"""

# KEYS index
# ARGV 1 prefix  2 owner  3 tombstone  4 its ttl  5... ids to keep
_END_USER: Final = r"""
local keep, reply = {}, {}
for i = 5, #ARGV do keep[ARGV[i]] = true end
for _, entry in ipairs(of_user(ARGV[1], ARGV[2])) do
  if not keep[entry[1]] then
    local control = control_of(entry[2], entry[3])
    entomb(entry[2], ARGV[3], ARGV[4])
    call('ZREM', KEYS[1], entry[1])
    reply[#reply + 1] = entry[1]
    reply[#reply + 1] = control
  end
end
return reply
"""

# KEYS index
# ARGV 1 prefix  2 owner
_OF_USER: Final = r"""
local reply = {}
for _, entry in ipairs(of_user(ARGV[1], ARGV[2])) do
  reply[#reply + 1] = entry[1]
  reply[#reply + 1] = call('GET', entry[2])
  reply[#reply + 1] = entry[4]
end
return reply
"""

# KEYS epochs
# ARGV 1 the new stamp  2 now
# A bucket without an epoch holds nothing that is valid. A stamp that is known already was set by an earlier attempt.
_END_EVERYTHING: Final = r"""
for _, key in ipairs(KEYS) do
  local epoch = call('GET', key)
  if epoch then
    local known = sub(epoch, 1, 8) == ARGV[1]
    for i = 9, #epoch - 15, 16 do known = known or sub(epoch, i, i + 7) == ARGV[1] end
    if not known then call('SET', key, ARGV[1] .. sub(epoch, 1, 8) .. ARGV[2] .. sub(epoch, 9, 120)) end
  end
end
return {1}
"""

# KEYS session
# ARGV 1 the header as it was read  2 owner  3 id  4 prefix
_SWEEP: Final = r"""
if head(KEYS[1]) ~= ARGV[1] then return 0 end
leave(ARGV[4], ARGV[2], ARGV[3])
return call('DEL', KEYS[1])
"""


class Script:
    """Hold a script's text and the digest by which Redis knows it."""

    __slots__ = ("digest", "text")

    def __init__(self, body: str) -> None:
        self.text: Final = (_COMMON + body).encode()
        self.digest: Final = hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode()

    def once(self, keys: tuple[bytes, ...], *arguments: bytes | str | int) -> tuple[bytes | str | int, ...]:
        """Return the command that runs the script by its digest."""
        return (b"EVALSHA", self.digest, len(keys), *keys, *arguments)


CREATE: Final = Script(_CREATE)
SAVE: Final = Script(_SAVE)
TOUCH: Final = Script(_TOUCH)
END: Final = Script(_END)
END_USER: Final = Script(_END_USER)
OF_USER: Final = Script(_OF_USER)
END_EVERYTHING: Final = Script(_END_EVERYTHING)
SWEEP: Final = Script(_SWEEP)
TEXTS: Final = {
    script.digest: script.text for script in (CREATE, SAVE, TOUCH, END, END_USER, OF_USER, END_EVERYTHING, SWEEP)
}
