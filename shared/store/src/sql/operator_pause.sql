SELECT virtuozo.pause($1)
