-- wrk -s tokens.lua URL -- [FILE FIRST]
--
-- Each line of FILE is a token. With one line, or no FILE, every request is the same; else the
-- tokens are sent one after the other, from the one after FIRST, and again from the beginning.
-- At the end prints what came of it, in one line.

function init(args)
    local file, first = args[1], tonumber(args[2])
    if not file then
        return
    end
    local requests = {}
    for token in io.lines(file) do
        requests[#requests + 1] = wrk.format(nil, nil, { ["X-Auth-Token"] = token })
    end
    local count, last = #requests, first
    if count == 1 then
        wrk.headers["X-Auth-Token"] = io.lines(file)()
        return
    end
    -- wrk calls it for each request, once it is there.
    function request()
        last = last % count + 1
        return requests[last]
    end
end

function done(summary)
    local errors = summary.errors
    io.write(string.format("\ntotal %d %d %d %d\n", summary.requests, summary.duration,
        errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
