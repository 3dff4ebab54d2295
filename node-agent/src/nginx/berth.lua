-- Leads each request to a healthy instance. The table of hosts stands in memory that all workers share, so that a
-- change of it is live in every worker the moment it is written, with no reload and no connection closed.
--
-- routes[host] = "<application's uid> <namespace>/<application> <address> <address> …"
-- routes["=generation"] = the number of the change that is live; no host begins with "=".

local balancer = require "ngx.balancer"
local routes = ngx.shared.berth_routes
local failed = ngx.shared.berth_failed

local M = {}

-- How long an instance that could not be reached is passed over while there are others, in seconds.
local PENALTY = 1
-- How many parsed entries a worker remembers; then it forgets all and begins again.
local PARSED_MAX = 20000
local parsed, parsed_count, turn = {}, 0, 0

local function parse(entry)
    local known = parsed[entry]
    if known then
        return known
    end
    local words = {}
    for word in entry:gmatch("%S+") do
        words[#words + 1] = word
    end
    known = { uid = words[1], application = words[2] }
    for index = 3, #words do
        local host, port = words[index]:match("^(.+):(%d+)$")
        known[#known + 1] = { host = host, port = tonumber(port), name = words[index] }
    end
    if parsed_count >= PARSED_MAX then
        parsed, parsed_count = {}, 0
    end
    parsed[entry] = known
    parsed_count = parsed_count + 1
    return known
end

local function site()
    local host = ngx.var.host
    local entry = host and routes:get(host)
    return entry and parse(entry)
end

local function answer(status, text)
    ngx.status = status
    ngx.header["Content-Type"] = "text/plain; charset=utf-8"
    ngx.header["Cache-Control"] = "no-store"
    ngx.say(text)
    return ngx.exit(status)
end

-- Before a request is passed on: is there anybody to pass it to?
function M.access()
    local site = site()
    if not site then
        return answer(404, "There is no application at this address.")
    end
    ngx.var.berth_uid = site.uid
    ngx.var.berth_application = site.application
    if #site == 0 then
        ngx.header["Retry-After"] = "5"
        return answer(503, "This application has no running instance at the moment.")
    end
end

-- Chooses the instance: the next one in turn that was not tried for this request and did not just fail.
function M.balance()
    local context = ngx.ctx
    local tried = context.berth_tried
    if not tried then
        tried = {}
        context.berth_tried = tried
    elseif balancer.get_last_failure() == "failed" and context.berth_last then
        failed:set(context.berth_last, true, PENALTY)
    end
    -- Read again: the instances may have changed while the request's body arrived.
    local site = site()
    local count = site and #site or 0
    if count == 0 then
        return ngx.exit(503)
    end
    turn = turn + 1
    local choice
    for step = 0, count - 1 do
        local candidate = site[(turn + step) % count + 1]
        if not tried[candidate.name] then
            if not failed:get(candidate.name) then
                choice = candidate
                break
            end
            choice = choice or candidate
        end
    end
    choice = choice or site[turn % count + 1]
    if not next(tried) and count > 1 then
        balancer.set_more_tries(math.min(count - 1, 2))
    end
    tried[choice.name] = true
    context.berth_last = choice.name
    local ok, problem = balancer.set_current_peer(choice.host, choice.port)
    if not ok then
        ngx.log(ngx.ERR, "instance ", choice.name, ": ", problem)
        return ngx.exit(502)
    end
end

-- The page for an instance that was there and did not answer.
function M.failed()
    ngx.header["Content-Type"] = "text/plain; charset=utf-8"
    ngx.header["Cache-Control"] = "no-store"
    if ngx.status == 503 then
        ngx.header["Retry-After"] = "5"
    end
    ngx.say(ngx.status == 504 and "The application did not answer in time." or "The application could not be reached.")
end

local function write(host, entry)
    -- `safe_set` fails when the memory is full, where `set` would push out another host.
    local ok, problem
    if entry then
        ok, problem = routes:safe_set(host, entry)
    else
        ok, problem = routes:delete(host), nil
        ok = true
    end
    return ok, problem
end

-- Takes lines of "host entry", or "host" alone for one that is gone. `whole` forgets what no line names.
local function take(text, whole)
    local named = {}
    for line in text:gmatch("[^\n]+") do
        local host, entry = line:match("^(%S+) (%S.*)$")
        if not host then
            host = line:match("^(%S+)$")
        end
        if host then
            local ok, problem = write(host, entry)
            if not ok then
                return nil, host .. ": " .. tostring(problem)
            end
            named[host] = entry ~= nil
        end
    end
    if whole then
        for _, host in ipairs(routes:get_keys(0)) do
            if not named[host] and host ~= "=generation" then
                routes:delete(host)
            end
        end
    end
    return true
end

-- When Nginx starts: the table as the agent wrote it last. After a reload the shared memory is there still, and newer.
function M.load()
    if routes:get("=generation") then
        return
    end
    local file = io.open(ngx.config.prefix() .. "routes", "r")
    if not file then
        return
    end
    local generation = file:read("*l")
    local ok, problem = take(file:read("*a") or "", true)
    file:close()
    if ok then
        routes:safe_set("=generation", generation)
    else
        ngx.log(ngx.ERR, "the table of routes could not be read: ", problem)
    end
end

local function body()
    ngx.req.read_body()
    local text = ngx.req.get_body_data()
    local path = not text and ngx.req.get_body_file()
    if path then
        local file = assert(io.open(path, "r"))
        text = file:read("*a")
        file:close()
    end
    return text or ""
end

-- The agent's own door: GET says what is live, PUT sets the whole table, PATCH changes it from one generation to another.
function M.admin()
    local method, generation = ngx.req.get_method(), ngx.var.arg_generation
    if method == "PATCH" and routes:get("=generation") ~= ngx.var.arg_base then
        return answer(409, "another generation is live")
    end
    if method == "PUT" or method == "PATCH" then
        if not generation or not generation:match("^%d+$") then
            return answer(400, "a generation is needed")
        end
        local ok, problem = take(body(), method == "PUT")
        if ok then
            ok, problem = routes:safe_set("=generation", generation)
        end
        if not ok then
            return answer(507, problem)
        end
    end
    ngx.header["Content-Type"] = "text/plain"
    ngx.print("config ", ngx.var.berth_config, "\ngeneration ", routes:get("=generation") or "-", "\n")
end

M.load()
-- What is global here, in the master process, is there in every worker.
berth = M
