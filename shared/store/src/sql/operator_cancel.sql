SELECT virtuozo.cancel($1)
