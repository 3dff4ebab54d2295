<?php

declare(strict_types=1);

use Berth\Greeting\Greeting;

require __DIR__ . '/../vendor/autoload.php';

header('Content-Type: text/plain; charset=utf-8');
$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
if ($path === '/healthz') {
    echo "ok\n";
} elseif ($path === '/') {
    echo Greeting::of('php', trim(file_get_contents(__DIR__ . '/../VERSION')));
} else {
    http_response_code(404);
    echo "no such page\n";
}
