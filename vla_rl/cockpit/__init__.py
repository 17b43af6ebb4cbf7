"""A page in the browser: watch a training, or an environment, take it over, and hand it back.

`desk` is what a training keeps for it, behind a socket of the machine; everything else is another process, the page's
server: `running` and `alone` are what it shows, `controls` turns keys into actions, `web` and `page/` are the page.
"""
