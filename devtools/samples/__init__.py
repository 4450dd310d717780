"""Made-up data that looks like a real installation: for a first run, screenshots, load tests and the demo.

people      names of many countries, addresses at reserved domains only (RFC 2606)
rhythm      when things happen: growth, weekdays, hours
catalogue   form templates in English and French
prose       free texts put together from fragments
answers     a field -> a plausible answer
generate    the whole world, each record a pure function of (seed, number)
load        the world through `commands.dispatch_many`, again and again without adding anything twice
logins      one staff login a role
editors     two pretend people who edit the same records
visits      their presence, over real sockets
traffic     submissions and editors, until told to stop
"""
