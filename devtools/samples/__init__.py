"""Generated data that looks like a real installation, for a first run, screenshots, load tests and the demo.

people      names of many countries, addresses at reserved domains only (RFC 2606)
rhythm      the distribution of times: growth, weekdays, hours
catalogue   form templates in English and French
prose       free texts composed of fragments
answers     a field -> a plausible answer
generate    all records, each a pure function of (seed, number)
load        writes them through `commands.dispatch_many`; a second run adds nothing
logins      one staff login per role
"""
